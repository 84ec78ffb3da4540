"""Finds the files of what ``--model`` names: a path, a name of the registry, or a hub id with ``@revision``."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tulu_eval.errors import PreflightError, UnknownName, UserError, near
from tulu_eval.models import model_files
from tulu_eval.models.base import ModelFiles
from tulu_eval.registry import Model, Suite


def resolve(name: str, suite: Suite, *, called: str = "", allow_pickle: bool = False) -> tuple[ModelFiles, Model | None]:
    """Returns a model's files and its registry entry, if it has one; neither loads nor downloads weights.

    What exists on disk comes first (of folders without a slash in ``name``, only a model's), then the registry, then the hub.
    ``called`` is what a local model's results are filed
    under; empty to choose, see :func:`tulu_eval.models.model_files.from_path`.

    Raises:
        UnknownName: Neither a path, nor in the registry, nor shaped like a hub id.
        PreflightError: If something is missing: hub, licence, package, tokenizer, safetensors.
        DataError: If a file is corrupt.
        UserError: If ``called`` cannot be a local model's name.
    """
    path = find_path(name)
    if path is not None:
        if called:
            check_name(called, suite)
        files = model_files.from_path(path, name=called, allow_pickle=allow_pickle)
        # No folder's name makes its weights released ones, nor puts their numbers into that model's row.
        return dataclasses.replace(files, name=f"{files.name}-local") if _is_known(files.name, suite) else files, None
    if called:
        raise UserError(f"--name {called}: {name} is no folder or file here, and a released model goes by its own name")
    asked, _, revision = name.partition("@")
    try:
        known = suite.find(asked)
    except UnknownName:
        if "/" not in asked:
            if Path(name).is_dir():
                return model_files.from_path(Path(name)), None  # which says what it lacks
            raise
        known = None
    if known is not None and known.package and asked.lower() != known.hub_id.lower():
        package = known.package
        return model_files.from_package(package.module, package.distribution, package.file, known.name), known
    hub_id = known.hub_id if known is not None else asked
    try:
        files = model_files.from_hub(hub_id, revision or None, allow_pickle=allow_pickle)
    except PreflightError as error:
        hint = near(asked, [model.hub_id for model in suite.models]) if known is None else ""
        raise PreflightError(f"{error}{hint and '.'}{hint}") from error
    if known is not None and known.context:
        files = dataclasses.replace(files, context=known.context)
    return files, known


def find_path(name: str) -> Path | None:
    """Returns the path that ``--model`` names, ``None`` if it names something else.

    A folder of results has the name of its model: a bare name is that of a folder only if it is a model's.

    Raises:
        PreflightError: If it looks like a path but nothing is there, or the place cannot be read.
    """
    if not name.strip():
        raise PreflightError("--model is empty: give a folder, a GGUF file, a name of the registry or a hub id")
    try:
        path = Path(name).expanduser()
        if path.is_dir() and model_files.NAME.fullmatch(name) and not model_files.is_model_folder(path):
            return None
        if path.exists():
            return path
        dangling = path.is_symlink()
    except (OSError, RuntimeError, ValueError) as error:  # no permission, a name too long, no such user, a null character
        cause = error.strerror if isinstance(error, OSError) else str(error)
        raise PreflightError(f"the model {name[:200]!r} cannot be looked for: {cause}") from error
    if dangling:
        raise PreflightError(f"the model {name} is a link that leads nowhere")
    if name.startswith((".", "/", "~")) or name.endswith(".gguf") or name.count("/") > 1:
        raise PreflightError(f"no such model file or folder: {name}")
    return None


def check_name(name: str, suite: Suite) -> None:
    """Raises UserError if a name cannot be a local model's or is a released model's; the message says which names can."""
    if not model_files.NAME.fullmatch(name):
        raise UserError(f"--name {name[:100]!r}: up to 96 letters, digits, '.', '_' and '-', and a letter or digit first")
    if _is_known(name, suite):
        raise UserError(f"--name {name} is a released model's name, which a local model's numbers must not go by")


def _is_known(name: str, suite: Suite) -> bool:
    try:
        suite.find(name)
    except UnknownName:
        return False
    except UserError:
        return True  # of several
    return True
