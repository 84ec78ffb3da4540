"""Finds the weight files of a model and reads their headers; no weight is loaded.

What is counted, hashed and downloaded is what transformers 5.19 loads (``modeling_utils.py``,
``_get_resolved_checkpoint_files``): ``model.safetensors`` if it is there, else every shard that
``model.safetensors.index.json`` names; pickles in the same order, and only where there are no safetensors. All else is left
alone: ``consolidated.safetensors`` beside shards (Mistral's own format of the same weights), variants
(``model.fp16.safetensors``), adapters, ``original/``, flax and TensorFlow files. vLLM 0.32 has another rule
(``default_loader.py``), to which :mod:`~tulu_eval.backends.vllm.preflight` holds a folder.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from tulu_eval.errors import DataError, PreflightError
from tulu_eval.models.config import read_object

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLE, PICKLE_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"

MAX_INDEX = 200_000_000
"""Largest size of an index in bytes; that of DeepSeek-V3, with 91,991 tensors, has 8.9 MB."""

_NAME = re.compile(r"[\w+=@-][\w.+=@-]*", re.ASCII)
"""A shard's name: a file beside the index, without characters that are special in a path or a pattern."""


class Tensor(NamedTuple):
    """A tensor's header: dtype as safetensors writes it, e.g. ``BF16``, and shape."""

    dtype: str
    shape: tuple[int, ...]


def choose(folder: Path, there: Collection[str], name: str, *, allow_pickle: bool) -> tuple[str, ...]:
    """Returns the names of a model's weight files in order.

    ``folder`` has its index, if it has one; ``there`` has the names of the files that the model has, here or on the hub.

    Raises:
        PreflightError: If there are none, only pickles, or fewer than the index names.
        DataError: If the index cannot be used.
    """
    if SINGLE in there:
        return (SINGLE,)
    if INDEX in there:
        return _named(folder, INDEX, there)
    if PICKLE not in there and PICKLE_INDEX not in there:
        others = sorted(file for file in there if file.endswith((".safetensors", ".bin", ".pt", ".pth", ".msgpack", ".h5")))
        found = f"; {others[0]} is not loaded without an index that names it" if others else ""
        raise PreflightError(f"{name} has no weights: neither {SINGLE} nor {INDEX} in {folder}{found}")
    if not allow_pickle:
        raise PreflightError(f"{name} has only pickle weights, which can run any code when loaded; --allow-pickle allows it")
    return (PICKLE,) if PICKLE in there else _named(folder, PICKLE_INDEX, there)


def indexed(folder: Path, index: str = INDEX) -> tuple[str, ...]:
    """Returns the file names in an index, in order; raises what :func:`choose` raises."""
    return tuple(sorted(set(_weight_map(folder / index).values())))


def _named(folder: Path, index: str, there: Collection[str]) -> tuple[str, ...]:
    names = indexed(folder, index)
    missing = [file for file in names if file not in there]
    if missing:
        raise PreflightError(
            f"{len(missing)} of {len(names)} weight files are missing in {folder}, first {missing[0]}; "
            "a model of the hub was downloaded in part"
        )
    return names


def _weight_map(path: Path) -> dict[str, str]:
    """Returns each tensor's file as the index has it."""
    found = read_object(path, MAX_INDEX).get("weight_map")
    if not isinstance(found, dict) or not found or not all(isinstance(file, str) for file in found.values()):
        raise DataError(path, "is not an index of weight files: it has no weight_map of tensors and files")
    for file in found.values():
        if not _NAME.fullmatch(file):
            raise DataError(path, f"names {file[:80]!r}, which is not the name of a file beside it")
    return found


def layout(folder: Path, names: Collection[str]) -> dict[str, Tensor]:
    """Returns every tensor of the safetensors files ``names`` in a model's folder, by name.

    Raises:
        DataError: If a file is corrupt, a tensor is in two files, or the index names the wrong file for one.
    """
    found: dict[str, Tensor] = {}
    places: dict[str, str] = {}
    for name in names:
        for key, tensor in _header(folder / name).items():
            if key in found:
                raise DataError(folder / name, f"has the tensor {key!r}, which is in {places[key]} too")
            found[key], places[key] = tensor, name
    if tuple(names) != (SINGLE,):
        lost = [key for key, file in _weight_map(folder / INDEX).items() if places.get(key) != file]
        if lost:
            raise DataError(folder / INDEX, f"says that {lost[0]!r} is in a file that does not have it")
    return found


def count(tensors: Mapping[str, Tensor]) -> Counter[str]:
    """Returns the number of parameters by dtype."""
    counts: Counter[str] = Counter()
    for tensor in tensors.values():
        counts[tensor.dtype] += math.prod(tensor.shape)
    return counts


def _header(file: Path) -> dict[str, Tensor]:
    """Returns a file's tensors; safetensors holds shapes, offsets and size against each other when it opens it."""
    from safetensors import SafetensorError, safe_open

    if not file.is_file():
        raise DataError(file, "is not a regular file")
    try:
        file.open("rb").close()  # safetensors 0.8 says of any file that it cannot open that it is not there
        with safe_open(file, framework="np") as opened:
            slices = {key: opened.get_slice(key) for key in opened.keys()}  # noqa: SIM118 - it is no mapping
            return {key: Tensor(one.get_dtype(), tuple(one.get_shape())) for key, one in slices.items()}
    except SafetensorError as error:
        raise DataError(file, "corrupt safetensors file (cut or overwritten); download or copy it again") from error
    except OSError as error:
        raise DataError(file, f"cannot be read: {error.strerror or error}") from error
