"""A model's files on disk, described without loading a weight, and the name under which its results are filed."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection
from pathlib import Path

from tulu_eval import hub
from tulu_eval.caching import file_sha256
from tulu_eval.errors import DataError, PreflightError
from tulu_eval.models import config as configs
from tulu_eval.models import exported, gguf, weights
from tulu_eval.models.base import ModelFiles

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

ADAPTER = "adapter_config.json"
"""Config of an adapter of the package peft."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
"""A name that a local model may have; released models have an organisation and a ``/``."""


def from_path(path: Path, *, name: str = "", allow_pickle: bool = False) -> ModelFiles:
    """Returns the model of a local folder or GGUF file.

    ``name`` is what results are filed under; empty for the name that ``tulu-eval train`` gave these weights, else for the last
    two parts of the path: checkpoints of different runs are all called ``policy`` or ``model``. ``allow_pickle`` accepts pickle
    weights where there are no safetensors.
    """
    whole = path.resolve()
    shown = name or "/".join(part for part in (whole.parent.name, whole.name.removesuffix(".gguf")) if part) or "model"
    files = _local(path, printable_name(shown), allow_pickle)
    return files if name else dataclasses.replace(files, name=_exported_name(files) or files.name)


def is_model_folder(folder: Path) -> bool:
    """Whether a folder has the config of a model or of an adapter."""
    return any((folder / name).exists() for name in ("config.json", ADAPTER))


def from_package(module: str, distribution: str, file: str, name: str) -> ModelFiles:
    """Returns the model that a Python package carries as a GGUF file, filed under ``name``."""
    return _local(gguf.in_package(module, distribution, file), name, allow_pickle=False)


def from_hub(hub_id: str, revision: str | None = None, *, allow_pickle: bool = False) -> ModelFiles:
    """Returns a model of the hub, downloading at most its small files.

    Raises:
        PreflightError: If it is unknown or gated, or the hub is unreachable and it is not in the local cache.
    """
    found = hub.locate(hub_id, revision)
    return inspect(found.folder, hub_id, allow_pickle=allow_pickle, located=found)


def fetch(model: ModelFiles) -> None:
    """Downloads the weights that :func:`from_hub` did not; does nothing for a local model."""
    if model.missing_bytes:
        hub.download(model.name, model.revision, model.weight_files, model.missing_bytes)


def printable_name(text: str) -> str:
    """Returns a name with ``-`` for each character that cannot be printed or written as UTF-8."""
    return "".join(letter if letter.isprintable() else "-" for letter in text)


def _exported_name(model: ModelFiles) -> str:
    """Returns the name that training gave a model; empty if there is none, or the weights are not those that it wrote."""
    try:
        found = exported.read(model.path)
    except DataError:
        return ""
    return found.name if found.weights_sha256 == model.weights_sha256 and NAME.fullmatch(found.name) else ""


def _local(path: Path, name: str, allow_pickle: bool) -> ModelFiles:
    if path.is_dir():
        return inspect(path, name, allow_pickle=allow_pickle)
    if not path.is_file():
        raise PreflightError(f"{path} is neither a folder nor a regular file")
    return inspect(gguf.folder_of(path), name, allow_pickle=allow_pickle)


def inspect(folder: Path, name: str, *, allow_pickle: bool = False, located: hub.Located | None = None) -> ModelFiles:
    """Describes the model in a folder by its config and the headers of its weight files.

    The folder has ``config.json``, tokenizer and, as far as they are not still on the hub, weights; ``located`` is what the hub
    says, for a model of the hub.

    Raises:
        PreflightError: If config, tokenizer or weights are missing, or the folder has an adapter.
        DataError: If config or weights are corrupt, or do not belong together.
    """
    try:
        there = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise PreflightError(f"{folder} cannot be read: {error.strerror}") from error
    listed = {file.name for file in located.files} if located else set[str]()
    _check_adapter(folder, name, there, listed or there)
    config = configs.read(folder)
    tokenizer = {file: _hash(folder / file) for file in TOKENIZER_FILES if file in there}
    if not {"tokenizer.json", "tokenizer.model", "vocab.json"} & set(tokenizer):
        raise PreflightError(f"{name} has no tokenizer: none of tokenizer.json, tokenizer.model, vocab.json in {folder}")
    files = weights.choose(folder, listed or there, name, allow_pickle=allow_pickle)
    missing = [file for file in files if file not in there]
    if missing and located is not None:
        hashes = {file.name: file.sha256 for file in located.files if file.name in files}
        counts, size = {located.dtype: located.parameters}, sum(f.size for f in located.files if f.name in files)
    else:
        counts = _measure(folder, files)
        hashes, size = {file: _hash(folder / file) for file in files}, sum((folder / file).stat().st_size for file in files)
    combined = hub.combined_sha256(hashes)
    stored = DTYPES.get(max(counts, key=lambda kind: counts[kind], default=""), "float32")
    named = config.dtype or stored
    return ModelFiles(
        name=name,
        path=folder,
        revision=located.commit if located else f"sha256:{combined}",
        weights_sha256=combined,
        tokenizer_sha256=hub.combined_sha256(tokenizer),
        architecture=config.architecture,
        parameters=sum(counts.values()) or size // DTYPE_BYTES.get(named, 2),
        dtype=named if named in DTYPE_BYTES else stored,
        context=config.context,
        weight_bytes=size,
        missing_bytes=sum(file.size for file in located.files if file.name in missing) if located else 0,
        weight_files=files,
    )


def _measure(folder: Path, files: Collection[str]) -> dict[str, int]:
    """Returns the number of parameters by dtype after checking that the config fits the weights; empty for pickles."""
    if not all(file.endswith(".safetensors") for file in files):
        return {}
    tensors = weights.layout(folder, files)
    configs.check_fit(folder, {name: tensor.shape for name, tensor in tensors.items()})
    return dict(weights.count(tensors))


def _check_adapter(folder: Path, name: str, there: Collection[str], listed: Collection[str]) -> None:
    """Refuses a folder with an adapter: transformers applies one beside the weights if peft is installed.

    (transformers 5.19, ``models/auto/auto_factory.py`` and ``integrations/peft.py``; vLLM 0.32 never looks for one, and reads
    its tensors among the weights where there is no index.)
    """
    if ADAPTER not in listed:
        if "config.json" not in there:
            raise PreflightError(f"{folder} is not a model folder: it has no config.json")
        return
    try:
        base = configs.read_object(folder / ADAPTER, configs.MAX_CONFIG).get("base_model_name_or_path")
    except DataError:
        base = None
    of = base if isinstance(base, str) and base else "BASE"
    if "config.json" not in listed or not {weights.SINGLE, weights.INDEX, weights.PICKLE, weights.PICKLE_INDEX} & set(listed):
        raise PreflightError(
            f"{name} is an adapter, not a model: with vLLM, run takes --model {of} --adapter {folder}; "
            "everything else needs it merged into its base"
        )
    raise PreflightError(
        f"{name} has an adapter ({ADAPTER}) beside its weights, which some engines would apply and some not: move it out, and "
        "give it with --adapter to apply it"
    )


def _hash(path: Path) -> str:
    """Returns a file's hash; raises DataError if it cannot be read."""
    if not path.is_file():
        raise DataError(path, "is not a regular file")
    try:
        return file_sha256(path)
    except OSError as error:
        raise DataError(path, f"cannot be read: {error.strerror}") from error
