"""A model's files on disk, looked at with no weight loaded.

Weights are safetensors, whose headers alone give the number of parameters and show a cut file.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from tulu_eval import hub
from tulu_eval.backends import gguf
from tulu_eval.backends.base import ModelFiles
from tulu_eval.caching import file_sha256
from tulu_eval.errors import DataError, PreflightError

DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64"}
"""Names in safetensors headers (huggingface/safetensors, "Format") and torch's."""

DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4, "float64": 8}

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "chat_template.jinja",
)

MAX_HEADER = 100_000_000
"""Bytes; the limit of the safetensors format itself."""


def from_path(path: Path, *, allow_pickle: bool = False) -> ModelFiles:
    """Returns the model of a local folder or GGUF file, filed under the folder's or file's name.

    Raises:
        PreflightError: No config, tokenizer or weights there.
        DataError: A file is there and corrupt.
    """
    return _local(path, path.resolve().name.removesuffix(".gguf"), allow_pickle)


def from_package(module: str, distribution: str, file: str, name: str) -> ModelFiles:
    """Returns the model that a Python package carries as a GGUF file, filed under ``name``."""
    return _local(gguf.in_package(module, distribution, file), name, allow_pickle=False)


def from_hub(hub_id: str, revision: str | None = None, *, allow_pickle: bool = False) -> ModelFiles:
    """Returns a model of the hub, downloading at most its small files.

    Raises:
        PreflightError: Unreachable and not in the local cache, unknown, or gated.
    """
    found = hub.locate(hub_id, revision, allow_pickle)
    return inspect(found.folder, hub_id, allow_pickle=allow_pickle, commit=found.commit, remote=found.remote)


def fetch(model: ModelFiles, allow_pickle: bool) -> None:
    """Downloads the weights that :func:`from_hub` left there; nothing to do for the rest."""
    if model.missing_bytes:
        hub.download(model.name, model.revision, model.missing_bytes, allow_pickle)


def _local(path: Path, name: str, allow_pickle: bool) -> ModelFiles:
    folder = path if path.is_dir() else gguf.folder_of(path)
    if not (folder / "config.json").exists():
        raise PreflightError(f"{path} is not a model folder: it has no config.json")
    return inspect(folder, name, allow_pickle=allow_pickle)


def inspect(
    folder: Path, name: str, *, allow_pickle: bool = False, commit: str = "", remote: hub.RemoteWeights | None = None
) -> ModelFiles:
    """Returns what a model folder holds, from its config and the headers of its weight files.

    Args:
        folder: Folder with ``config.json``, tokenizer and, unless ``remote``, weights.
        name: What results are filed under.
        allow_pickle: Accept pickle weights where there are no safetensors.
        commit: The hub's commit, for a model of the hub.
        remote: The weights, where they are still on the hub.

    Raises:
        PreflightError: No tokenizer or no weights.
        DataError: Config or weights are corrupt.
    """
    config = _read_config(folder)
    tokenizer = {file: file_sha256(folder / file) for file in TOKENIZER_FILES if (folder / file).exists()}
    if not {"tokenizer.json", "tokenizer.model", "vocab.json"} & set(tokenizer):
        raise PreflightError(f"{name} has no tokenizer: none of tokenizer.json, tokenizer.model, vocab.json in {folder}")
    if remote is None:
        hashes, counts, size = _read_weights(folder, name, allow_pickle)
        weights = hub.combined_sha256(hashes)
    else:
        counts, size, weights = Counter({remote.dtype: remote.parameters}), remote.bytes, remote.sha256
    stored = DTYPES.get(max(counts, key=lambda kind: counts[kind]) if counts else "", "float32")
    named = str(config.get("dtype") or config.get("torch_dtype") or stored)
    text = config.get("text_config") if isinstance(config.get("text_config"), dict) else config
    return ModelFiles(
        name=name,
        path=folder,
        revision=commit or f"sha256:{weights}",
        weights_sha256=weights,
        tokenizer_sha256=hub.combined_sha256(tokenizer),
        architecture=str((config.get("architectures") or ["unknown"])[0]),
        parameters=sum(counts.values()) or size // DTYPE_BYTES.get(named, 2),
        dtype=named if named in DTYPE_BYTES else stored,
        context=int((text or config).get("max_position_embeddings") or 0),
        weight_bytes=size,
        missing_bytes=remote.bytes if remote else 0,
    )


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(path, f"cannot be read as JSON: {error}") from error
    if not isinstance(config, dict):
        raise DataError(path, "is not a JSON object")
    return config


def _read_weights(folder: Path, name: str, allow_pickle: bool) -> tuple[dict[str, str], Counter[str], int]:
    """Returns hashes by file, parameters by dtype, and the size in bytes."""
    files = sorted(folder.glob("*.safetensors"))
    _check_shards(folder)
    if not files:
        pickles = sorted(folder.glob("pytorch_model*.bin"))
        if not pickles:
            raise PreflightError(f"{name} has no weights in {folder}; if it is a model of the hub, it was downloaded in part")
        if not allow_pickle:
            raise PreflightError(
                f"{name} has only pickle weights, which can run any code when loaded; --allow-pickle allows it"
            )
        return {f.name: file_sha256(f) for f in pickles}, Counter(), sum(f.stat().st_size for f in pickles)
    counts: Counter[str] = Counter()
    for file in files:
        counts.update(_count_parameters(file))
    return {f.name: file_sha256(f) for f in files}, counts, sum(f.stat().st_size for f in files)


def _check_shards(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise DataError(index, "is not an index of safetensors shards") from error
    missing = sorted(str(name) for name in names if not (folder / str(name)).exists())
    if missing:
        raise PreflightError(f"{len(missing)} of {len(names)} weight files are missing in {folder}, first {missing[0]}")


def layout(folder: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Returns dtype and shape of every tensor in a folder's safetensors files, by name.

    Raises:
        DataError: A file is corrupt.
    """
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        found |= _read_header(file)
    return found


def _count_parameters(file: Path) -> Counter[str]:
    """Returns the number of parameters by dtype."""
    counts: Counter[str] = Counter()
    for dtype, shape in _read_header(file).values():
        counts[dtype] += math.prod(shape)
    return counts


def _read_header(file: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Returns a file's tensors from its header, which also shows whether the file is whole."""
    corrupt = DataError(file, "corrupt safetensors file (cut or overwritten); download or copy it again")
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 2 <= length <= min(MAX_HEADER, file.stat().st_size):
                raise corrupt
            header = json.loads(stream.read(length))
        end = 0
        for key, tensor in header.items():
            if key == "__metadata__":
                continue
            found[key] = (str(tensor["dtype"]), tuple(map(int, tensor["shape"])))
            end = max(end, int(tensor["data_offsets"][1]))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise corrupt from error
    if 8 + length + end != file.stat().st_size:
        raise corrupt
    return found
