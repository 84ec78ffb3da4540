"""Checkpoints that are there whole or not at all, and in which nothing is ever executed.

A checkpoint is written as ``step-N.tmp``: the shards of all ranks by torch's distributed checkpoint, then ``manifest.json``
with the size and hash of every file, flushed to the disk; then the folder is renamed. Whatever is killed when, the newest
folder whose manifest and files agree is the one to go on from. Parameters and moments are all that is saved of the models:
learning rate, order and draws are functions of the step.

The shards are safetensors (``HuggingFaceStorageWriter`` of torch 2.13, ``distributed/checkpoint/hf_storage.py``). Torch's own
format is pickle: its reader calls a plain ``pickle.load`` on ``.metadata`` (``filesystem.py``), and its planner
``torch.load(weights_only=False)`` on whatever that calls bytes (``default_planner.py``).
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
from tulu_eval.training import saved as manifests
from tulu_eval.training.parallel import Ranks
from tulu_eval.training.saved import BrokenError, CheckpointError, File, Saved

KEPT = 2
"""Newest checkpoints that are kept: the last one, and one more should its disk blocks turn out bad."""

BYTES_PER_PARAMETER = 12
"""float32 parameter and two float32 moments."""

FILE_BYTES = 1 << 30
"""Bytes of whole tensors that go into one file of all ranks: safetensors are put together in memory before they are written."""

OWN = "shard-{:05d}-*"
"""Files that a rank, counted from 1, writes (torch 2.13, ``distributed/checkpoint/_hf_utils.py``)."""


class Trained(NamedTuple):
    """A model that is trained, and its optimizer."""

    model: nn.Module
    optimizer: Optimizer


def newest(folder: Path) -> Saved | None:
    """Returns the newest checkpoint in a folder whose manifest and sizes are whole, if there is one; hashes are not looked at.

    Raises:
        CheckpointError: Another version of this program wrote it.
    """
    for path in manifests.folders(folder):
        try:
            return manifests.read(path)
        except BrokenError:
            continue  # which one is passed over is said when one is loaded
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
        KeyboardInterrupt: Ctrl-C, also where torch took it for a failure to write.
    """
    final = manifests.folder_of(folder, step)
    draft = final.with_suffix(".tmp")
    own: dict[str, File] = {}
    writes: list[Callable[[], object]] = [
        lambda: _begin(draft) if ranks.first else None,
        lambda: _write(draft, trained),
        lambda: own.update({path.name: manifests.digest(path) for path in draft.glob(OWN.format(ranks.rank + 1))}),
        lambda: _publish(Saved(draft, step, dict(identity), dict(counters), ranks.merge(own)), final, ranks),
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
        _prune(folder, step)


def _is_interrupt(error: BaseException) -> bool:
    """Whether it is Ctrl-C: torch's checkpoint catches that as well, and raises an exception of its own with it inside."""
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
    """Has the disk hold what was written to a file or folder."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _prune(folder: Path, step: int) -> None:
    """Removes what is older than the newest; one of a later step is broken, since the run went on from before it."""
    whole = [path for path in manifests.folders(folder) if manifests.step_of(path) <= step]
    for path in whole[KEPT:]:
        shutil.rmtree(path, ignore_errors=True)


def clear(folder: Path) -> None:
    """Removes the drafts that a killed run left."""
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
    """Puts the newest whole checkpoint's parameters and moments into models and optimizers, however many ranks wrote it.

    All ranks call it together.

    Args:
        folder: With checkpoints.
        trained: Models and optimizers, which are changed in place.
        identity: What the checkpoint must have in common with this run.
        ranks: Each looks at the hashes of its share of the files.
        doubt: Returns why what was loaded cannot be of the step that the manifest says; empty where it can.
        say: Is told which checkpoint is passed over, and why.

    Returns:
        What was loaded; None where there is no checkpoint.

    Raises:
        CheckpointError: There are some and none is whole, or one is of another run.
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
        reasons.append(f"{path} is broken ({reason or 'another rank says so'})")
        if ranks.first:
            say(f"{reasons[-1]}: an older one is looked for")
    if reasons:
        raise CheckpointError(f"{reasons[0]}, and no older one is whole; begin anew with --fresh")
    return None


def _load(saved: Saved, trained: Mapping[str, Trained]) -> str:
    """Reads a checkpoint's tensors into the run's own; returns why that cannot be done, empty where it was."""
    state = _state(trained)
    reader = HuggingFaceStorageReader(str(saved.folder))
    try:
        reason = _misfit(reader.read_metadata(), state)
        if not reason:
            with _quiet():
                dcp.load(state, storage_reader=reader)  # type: ignore[attr-defined]
    except (Exception, CheckpointException) as error:  # whatever a changed file makes a reader raise
        if _is_interrupt(error):
            raise KeyboardInterrupt from error
        return f"it cannot be loaded: {' '.join(str(error).split())[:200] or type(error).__name__}"
    return reason


def _misfit(found: Metadata, state: Mapping[str, Tensor]) -> str:
    """Returns in what a checkpoint's tensors are others than a run's, each of which has to be there whole."""
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
    """Returns the run's own tensors, not copies: each parameter once, however many names it has, and its moments."""
    state: dict[str, Tensor] = {}
    for name, one in trained.items():
        for key, parameter in one.model.named_parameters():
            state[f"{name}.{key}"] = parameter
            for moment, tensor in one.optimizer.state.get(parameter, {}).items():
                state[f"{name}.{key}:{moment}"] = tensor
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
