"""Writes checkpoints whole or not at all, and loads them without executing anything in them.

Torch's distributed checkpoint writes the shards of all ranks into ``step-N.tmp``. Then this module writes ``manifest.json``,
with the size and hash of every file, flushes it to the disk, and renames the folder. So after a kill at any moment, a run
resumes from the newest folder whose manifest and files agree. A checkpoint has only parameters and moments: learning rate,
order and draws follow from the step.

The shards are safetensors (``HuggingFaceStorageWriter`` of torch 2.13, ``distributed/checkpoint/hf_storage.py``). Torch's own
format is pickle: its reader calls a plain ``pickle.load`` on ``.metadata`` (``filesystem.py``), and its planner calls
``torch.load(weights_only=False)`` on any value that the metadata names bytes (``default_planner.py``).
"""

from __future__ import annotations

import math
import os
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.optim import Optimizer

from tulu_eval.errors import PreflightError
from tulu_eval.training.parallel import Ranks
from tulu_eval.training.saving import saved as manifests
from tulu_eval.training.saving.saved import BrokenError, CheckpointError, File, Saved

KEPT = 2
"""Number of checkpoints to keep: the newest, and one more in case its disk blocks are bad."""

BYTES_PER_PARAMETER = 12
"""One float32 parameter and two float32 moments."""

FILE_BYTES = 1 << 30
"""Bytes of whole tensors per file: the writer puts a file of safetensors together in memory."""

OWN = "shard-{:05d}-*"
"""Pattern of the files of one rank, counted from 1 (torch 2.13, ``distributed/checkpoint/_hf_utils.py``)."""


class Trained(NamedTuple):
    """A model in training, and its optimizer."""

    model: nn.Module
    optimizer: Optimizer


def newest(folder: Path) -> Saved | None:
    """Returns the newest checkpoint whose manifest and sizes are right; ``None`` if there is none. It checks no hashes."""
    for path in manifests.folders(folder):
        try:
            return manifests.read(path)
        except BrokenError:
            continue  # resume reports it
    return None


def save(saved: Saved, trained: Mapping[str, Trained], ranks: Ranks) -> None:
    """Writes a checkpoint into its folder, and removes old ones beside it. All ranks must call it; ``files`` is filled in.

    Raises:
        CheckpointError: If the checkpoint cannot be written; earlier ones stay as they are.
        KeyboardInterrupt: If Ctrl-C is pressed, even if torch reports it as a failure to write.
    """
    final = saved.folder
    draft = final.with_suffix(".tmp")
    own: dict[str, File] = {}
    writes: list[Callable[[], object]] = [
        lambda: _begin(draft) if ranks.first else None,
        lambda: _write(draft, trained),
        lambda: own.update({path.name: manifests.digest(path) for path in draft.glob(OWN.format(ranks.rank + 1))}),
        lambda: _publish(saved._replace(folder=draft, files=ranks.merge(own)), final, ranks),
    ]
    for write in writes:
        failed = ""
        try:
            with _quiet():
                write()
        except (OSError, CheckpointException, KeyboardInterrupt) as error:
            if _is_interrupt(error):
                _remove(draft, ranks)
                raise KeyboardInterrupt from error
            failed = " ".join(str(error).split())[:300] or type(error).__name__
        if ranks.any(bool(failed)):
            _remove(draft, ranks)
            raise CheckpointError(
                f"checkpoint {final} cannot be written: {failed or 'another rank failed'}; "
                "the ones before it are whole: make room and give the same command again"
            )
    if ranks.first:
        _prune(final.parent, saved.step)


def _is_interrupt(error: BaseException) -> bool:
    """Whether an error is Ctrl-C, or torch's error around it."""
    inside = [cause for cause, _ in error.failures.values()] if isinstance(error, CheckpointException) else []
    return any(isinstance(one, KeyboardInterrupt) for one in (error, *inside))


def _begin(draft: Path) -> None:
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)


def _remove(draft: Path, ranks: Ranks) -> None:
    if ranks.first:
        shutil.rmtree(draft, ignore_errors=True)


def _write(draft: Path, trained: Mapping[str, Trained]) -> None:
    state, numbers, total = _state(trained), {}, 0
    for name, tensor in state.items():
        numbers[name] = 1 + total // FILE_BYTES
        total += tensor.numel() * tensor.element_size()
    writer = HuggingFaceStorageWriter(str(draft), fqn_to_index_mapping=numbers, save_distributed=True)
    dcp.save(state, storage_writer=writer)  # type: ignore[attr-defined]


def _publish(saved: Saved, final: Path, ranks: Ranks) -> None:
    if not ranks.first:
        return
    for name in saved.files:
        _flush(saved.folder / name)
    manifests.write(saved)
    shutil.rmtree(final, ignore_errors=True)
    saved.folder.replace(final)
    _flush(final.parent)


def _flush(path: Path) -> None:
    """Flushes a file or folder to the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _prune(folder: Path, step: int) -> None:
    """Removes old checkpoints. It keeps those of later steps: they are broken, so the run resumed from an earlier step."""
    whole = [path for path in manifests.folders(folder) if manifests.step_of(path) <= step]
    for path in whole[KEPT:]:
        shutil.rmtree(path, ignore_errors=True)


def clear(folder: Path) -> None:
    """Removes the drafts of a killed run."""
    for path in folder.glob("step-*.tmp"):
        shutil.rmtree(path, ignore_errors=True)


def resume(
    folder: Path,
    trained: Mapping[str, Trained],
    identity: Mapping[str, str],
    ranks: Ranks,
    doubt: Callable[[Saved], str],
    say: Callable[[str], None],
) -> Saved | None:
    """Loads the newest whole checkpoint into models and optimizers, which may have been written by any number of ranks.

    All ranks must call it. The function changes models and optimizers in place; each rank checks the hashes of its share of the
    files. ``identity`` has the values that the checkpoint and this run must share; ``doubt`` returns why the loaded state is
    not that of the manifest's step, empty if it is; ``say`` is called with each skipped checkpoint and the reason.

    Returns:
        The manifest of the loaded checkpoint; ``None`` if there is no checkpoint.

    Raises:
        CheckpointError: If there are checkpoints and none is whole, or one belongs to another run.
    """
    reasons: list[str] = []
    for path in manifests.folders(folder):
        saved, reason = None, ""
        try:
            saved = manifests.read(path)
            refuse_other(saved, identity)
            manifests.check(saved, ranks.share(sorted(saved.files)))
        except BrokenError as error:
            reason = str(error)
        if not ranks.any(bool(reason)) and saved is not None:
            reason = _load(saved, trained) or doubt(saved)
            if not ranks.any(bool(reason)):
                return saved
        reasons.append(f"{path} is broken ({reason or 'on another rank'})")
        if ranks.first:
            say(f"{reasons[-1]}: looking for an older one")
    if reasons:
        raise CheckpointError(f"{reasons[0]}, and no older one is whole; begin anew with --fresh")
    return None


def _load(saved: Saved, trained: Mapping[str, Trained]) -> str:
    """Loads a checkpoint's tensors into the run's own; returns the reason if they cannot be loaded, else an empty text."""
    state = _state(trained)
    reader = HuggingFaceStorageReader(str(saved.folder))
    try:
        reason = _misfit(reader.read_metadata(), state)
        if not reason:
            with _quiet():
                dcp.load(state, storage_reader=reader)  # type: ignore[attr-defined]
    except (Exception, CheckpointException) as error:  # a changed file may make the reader raise anything
        if _is_interrupt(error):
            raise KeyboardInterrupt from error
        return f"it cannot be loaded: {' '.join(str(error).split())[:200] or type(error).__name__}"
    return reason


def _misfit(found: Metadata, state: Mapping[str, Tensor]) -> str:
    """Returns how a checkpoint's tensors differ from a run's; empty if all are there and whole."""
    if set(found.state_dict_metadata) != set(state):
        return "it has other tensors than this run's models"
    for name, wanted in state.items():
        one = found.state_dict_metadata[name]
        if (
            not isinstance(one, TensorStorageMetadata)
            or one.size != wanted.size()
            or one.properties.dtype != wanted.dtype
            or sum(math.prod(chunk.sizes) for chunk in one.chunks) != wanted.numel()
        ):
            return f"its tensor {name} has another shape or is not whole"
    return ""


def _state(trained: Mapping[str, Trained]) -> dict[str, Tensor]:
    """Returns the run's own tensors, not copies: each parameter once, even if it has several names, and its moments."""
    state: dict[str, Tensor] = {}
    for name, one in trained.items():
        for key, parameter in one.model.named_parameters():
            state[f"{name}.{key}"] = parameter
            for moment, tensor in one.optimizer.state.get(parameter, {}).items():
                state[f"{name}.{key}:{moment}"] = tensor
    return state


class _quiet(warnings.catch_warnings):  # noqa: N801 - used like a function
    """Hides torch's warning that there is only one process."""

    def __enter__(self) -> Any:
        entered = super().__enter__()
        warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")
        return entered


def refuse_full_disk(folder: Path, parameters: int) -> None:
    """Raises PreflightError if the disk has too little room for the checkpoints of a run, whose folder need not exist."""
    at = next(path for path in (folder, *folder.parents) if path.exists())
    needed = (KEPT + 1) * BYTES_PER_PARAMETER * parameters
    free = shutil.disk_usage(at).free
    if free < needed:
        raise PreflightError(
            f"checkpoints need {needed / 1e9:.1f} GB in {folder}, which has {free / 1e9:.1f} GB free; give another --output"
        )


def refuse_other(saved: Saved, identity: Mapping[str, str]) -> None:
    """Raises CheckpointError if a checkpoint has another identity than this run; the message names what differs."""
    other = [key for key in identity if saved.identity.get(key) != identity[key]]
    if other:
        raise CheckpointError(
            f"{saved.folder} was written with another {' and '.join(other)}; give that one, another --output, or --fresh"
        )
