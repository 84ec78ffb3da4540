"""Checkpoints that are there whole or not at all.

A checkpoint is written as ``step-N.tmp``: the shards of all ranks by torch's distributed checkpoint, then ``manifest.json``
with the size of every file, flushed to the disk; then the folder is renamed. Whatever is killed when, the newest folder whose
manifest and files agree is the one to go on from. Parameters and moments are all that is saved of the models: learning rate,
order and draws are functions of the step.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
from torch.optim import Optimizer

from tulu_eval.errors import PreflightError, UserError
from tulu_eval.training.parallel import Ranks

KEPT = 2
"""Newest checkpoints that are kept: the last one, and one more should its disk blocks turn out bad."""

BYTES_PER_PARAMETER = 12
"""float32 parameter and two float32 moments."""

MANIFEST = "manifest.json"
_NAME = re.compile(r"step-(\d{8})")


class CheckpointError(UserError):
    """A checkpoint that cannot be written, or does not belong to this run."""


class Trained(NamedTuple):
    """A model that is trained, and its optimizer."""

    model: nn.Module
    optimizer: Optimizer


class Saved(NamedTuple):
    """A whole checkpoint.

    Attributes:
        folder: Where it is.
        step: Steps made.
        identity: What a run must have in common with it to go on from it.
        counters: Whatever else the run counts.
    """

    folder: Path
    step: int
    identity: dict[str, str]
    counters: dict[str, int]


def newest(folder: Path) -> Saved | None:
    """Returns the newest whole checkpoint in a folder, if there is one."""
    found = sorted((path for path in folder.glob("step-*") if _NAME.fullmatch(path.name)), reverse=True)
    return next((saved for path in found if (saved := _read(path)) is not None), None)


def _read(path: Path) -> Saved | None:
    try:
        data = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        sizes: dict[str, int] = data["files"]
        if any((path / name).stat().st_size != size for name, size in sizes.items()):
            return None
        return Saved(path, int(data["step"]), dict(data["identity"]), dict(data["counters"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def save(
    folder: Path,
    step: int,
    trained: Mapping[str, Trained],
    identity: Mapping[str, str],
    counters: Mapping[str, int],
    ranks: Ranks,
) -> None:
    """Writes a checkpoint and removes the ones that are too old. All ranks call it together.

    Raises:
        CheckpointError: It cannot be written; the ones before it are untouched.
    """
    final = folder / f"step-{step:08d}"
    draft = final.with_suffix(".tmp")
    writes: list[Callable[[], object]] = [
        lambda: _begin(draft) if ranks.first else None,
        lambda: dcp.save(_state(trained), checkpoint_id=draft),  # type: ignore[attr-defined]
        lambda: _publish(draft, final, step, identity, counters) if ranks.first else None,
    ]
    for write in writes:
        failed = ""
        try:
            with _quiet():
                write()
        except (OSError, CheckpointException) as error:
            failed = " ".join(str(error).split())[:300] or type(error).__name__
        if ranks.any(bool(failed)):
            if ranks.first:
                shutil.rmtree(draft, ignore_errors=True)
            raise CheckpointError(
                f"checkpoint {final} cannot be written: {failed or 'another rank failed'}; "
                "the ones before it are whole: make room and give the same command again"
            )
    if ranks.first:
        _prune(folder)


def _begin(draft: Path) -> None:
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)


def _publish(draft: Path, final: Path, step: int, identity: Mapping[str, str], counters: Mapping[str, int]) -> None:
    files = {path.name: path.stat().st_size for path in sorted(draft.iterdir())}
    for name in files:
        _flush(draft / name)
    with (draft / MANIFEST).open("w", encoding="utf-8") as file:
        manifest = {"step": step, "identity": dict(identity), "counters": dict(counters), "files": files}
        json.dump(manifest, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    shutil.rmtree(final, ignore_errors=True)
    draft.replace(final)
    _flush(final.parent)


def _flush(path: Path) -> None:
    """Has the disk hold what was written to a file or folder."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _prune(folder: Path) -> None:
    whole = sorted(path for path in folder.glob("step-*") if _NAME.fullmatch(path.name))
    for path in whole[:-KEPT]:
        shutil.rmtree(path, ignore_errors=True)


def load(saved: Saved, trained: Mapping[str, Trained]) -> None:
    """Puts a checkpoint's parameters and moments into models and optimizers, however many ranks wrote it."""
    state = _state(trained)
    with _quiet():
        dcp.load(state, checkpoint_id=saved.folder)  # type: ignore[attr-defined]
    for name, one in trained.items():
        one.model.load_state_dict(state[f"{name}.model"])
        set_optimizer_state_dict(one.model, one.optimizer, state[f"{name}.optimizer"])


def _state(trained: Mapping[str, Trained]) -> dict[str, Any]:
    state: dict[str, Any] = {}
    for name, one in trained.items():
        state[f"{name}.model"] = one.model.state_dict()
        state[f"{name}.optimizer"] = get_optimizer_state_dict(one.model, one.optimizer)
    return state


class _quiet(warnings.catch_warnings):  # noqa: N801 - used like a function
    """Leaves out the remark that there is only one process."""

    def __enter__(self) -> Any:
        entered = super().__enter__()
        warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")
        return entered


def refuse_full_disk(folder: Path, parameters: int) -> None:
    """Says before the first step that the checkpoints of so many trained parameters do not fit.

    Raises:
        PreflightError: The disk has no room for them.
    """
    at = next(path for path in (folder, *folder.parents) if path.exists())
    needed = (KEPT + 1) * BYTES_PER_PARAMETER * parameters
    free = shutil.disk_usage(at).free
    if free < needed:
        raise PreflightError(
            f"checkpoints need {needed / 1e9:.1f} GB in {folder}, which has {free / 1e9:.1f} GB free; give another --output"
        )


def refuse_other(saved: Saved, identity: Mapping[str, str]) -> None:
    """Says what differs between a checkpoint's run and this one.

    Raises:
        CheckpointError: Something that matters does.
    """
    other = [key for key in identity if saved.identity.get(key) != identity[key]]
    if other:
        raise CheckpointError(
            f"{saved.folder} was written with another {' and '.join(other)}; give that one, another --output, or --fresh"
        )
