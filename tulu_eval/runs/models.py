"""From what ``--model`` says to a model's files: a path, a name of the registry, or a hub id with ``@revision``."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tulu_eval.backends import loading
from tulu_eval.backends.base import ModelFiles
from tulu_eval.errors import PreflightError, UnknownName
from tulu_eval.registry import Model, Suite


def resolve(name: str, suite: Suite, *, allow_pickle: bool = False) -> tuple[ModelFiles, Model | None]:
    """Returns a model's files, weights not loaded and not downloaded, and its registry entry if it has one.

    What exists on disk comes first, then the registry, then the hub.

    Raises:
        UnknownName: Neither a path, nor in the registry, nor shaped like a hub id.
        PreflightError: Something is missing: hub, licence, package, tokenizer, safetensors.
        DataError: A file is there and corrupt.
    """
    path = Path(name).expanduser()
    if path.exists():
        return loading.from_path(path, allow_pickle=allow_pickle), None
    if name.startswith((".", "/", "~")) or name.endswith(".gguf") or name.count("/") > 1:
        raise PreflightError(f"no such model file or folder: {name}")
    asked, _, revision = name.partition("@")
    try:
        known = suite.find(asked)
    except UnknownName:
        if "/" not in asked:
            raise
        known = None
    if known is not None and known.package and asked.lower() != known.hub_id.lower():
        package = known.package
        return loading.from_package(package.module, package.distribution, package.file, known.name), known
    hub_id = known.hub_id if known is not None else asked
    files = loading.from_hub(hub_id, revision or None, allow_pickle=allow_pickle)
    if known is not None and known.context:
        files = dataclasses.replace(files, context=known.context)
    return files, known
