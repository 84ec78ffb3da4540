"""Reads and writes the manifest of a checkpoint: its step, its run's identity, and the size and sha256 of every file.

Hashes find rot, not malice, because somebody who replaces a file can replace its hash. So a checkpoint has nothing to execute:
the manifest is JSON, and the tensors are safetensors.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from tulu_eval import files
from tulu_eval.errors import DataError, UserError
from tulu_eval.files import Record
from tulu_eval.models.exported import ExportedChange

FORMAT = 3
"""Version of a checkpoint's files. Format 1, which had no number, had pickles; in format 2 rates and guards were of the
identity."""

MANIFEST = "manifest.json"
MAX_MANIFEST = 16_000_000
"""Largest size in bytes; a checkpoint of 128 ranks with 1,000 files each has 12 MB."""

_FOLDER = re.compile(r"step-(\d{8,})")

Count = Annotated[int, Meta(ge=0, lt=1 << 62)]
ShardName = Annotated[str, Meta(pattern=r"\Ashard-[0-9]+-model-[0-9]+-of-[0-9]+\.safetensors\Z")]


class CheckpointError(UserError):
    """A checkpoint cannot be written or read, or does not belong to this run."""


class BrokenError(Exception):
    """A checkpoint has changed since it was written; the message says in a few words how."""


class File(Record, frozen=True):
    """The size in bytes and the hash of a file."""

    size: Count
    sha256: Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class CheckpointManifest(Record, frozen=True):
    """A checkpoint's manifest, as :class:`Saved` explains it."""

    format: Literal[3]
    step: Count
    identity: dict[str, str]
    counters: dict[str, Count]
    adjustable: dict[str, float]
    changes: tuple[ExportedChange, ...]
    files: dict[ShardName, File]


class Saved(NamedTuple):
    """A checkpoint on the disk.

    Attributes:
        step: Number of finished steps.
        identity: Values that the checkpoint and a run that resumes from it must share.
        counters: Counters of the run's guards.
        adjustable: Values that a run that resumes from it may change.
        changes: Those that changed at resumes before.
        files: All files but the manifest, by name.
    """

    folder: Path
    step: int
    identity: dict[str, str]
    counters: dict[str, int]
    adjustable: dict[str, float]
    changes: tuple[ExportedChange, ...]
    files: dict[str, File]

    def changed(self, adjustable: Mapping[str, float]) -> tuple[ExportedChange, ...]:
        """Returns the changes of a run that resumes from this checkpoint with these values: the earlier and the new ones."""
        new = [
            ExportedChange(self.step, name, self.adjustable[name], value)
            for name, value in adjustable.items()
            if name in self.adjustable and self.adjustable[name] != value
        ]
        return (*self.changes, *new)


def folder_of(folder: Path, step: int) -> Path:
    """Returns the folder of a step's checkpoint."""
    return folder / f"step-{step:08d}"


def step_of(path: Path) -> int:
    """Returns the step in the name of a checkpoint's folder; -1 for another name."""
    match = _FOLDER.fullmatch(path.name)
    return int(match[1]) if match else -1


def folders(folder: Path) -> list[Path]:
    """Returns the folders of checkpoints, without drafts, newest first."""
    return sorted((path for path in folder.glob("step-*") if step_of(path) >= 0), key=step_of, reverse=True)


def digest(path: Path) -> File:
    """Returns the size and the hash of a file."""
    with path.open("rb") as file:
        return File(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


def write(saved: Saved) -> None:
    """Writes a manifest and flushes it to the disk."""
    data = {
        "format": FORMAT,
        "step": saved.step,
        "identity": saved.identity,
        "counters": saved.counters,
        "adjustable": saved.adjustable,
        "changes": msgspec.to_builtins(saved.changes),
        "files": {name: {"size": file.size, "sha256": file.sha256} for name, file in saved.files.items()},
    }
    with (saved.folder / MANIFEST).open("w", encoding="utf-8") as file:
        json.dump(data, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())


def read(folder: Path) -> Saved:
    """Returns the checkpoint in a folder, after a check of the names and sizes of its files.

    Raises:
        BrokenError: If the manifest or a file has changed.
        CheckpointError: If another version of this program wrote it.
    """
    try:
        there = {path.name: path.lstat() for path in folder.iterdir()}
        if any(not stat.S_ISREG(state.st_mode) for state in there.values()):
            raise BrokenError("something in it is not a regular file")
        if MANIFEST not in there or there[MANIFEST].st_size > MAX_MANIFEST:
            raise BrokenError(f"it has no {MANIFEST}, or one that is too large")
        data = files.read_json(folder / MANIFEST, MAX_MANIFEST)
    except OSError as error:
        raise BrokenError(f"it cannot be read: {error.strerror}") from error
    except DataError as error:
        raise BrokenError(f"its {MANIFEST} is not JSON") from error
    if isinstance(data, dict) and data.get("format", 1) != FORMAT:
        raise CheckpointError(
            f"{folder} is of format {data.get('format', 1)!r}, and this version reads format {FORMAT}: finish the run with the "
            "version that began it, or begin anew with --fresh"
        )
    try:
        found = files.checked(data, CheckpointManifest, files.Place(folder / MANIFEST))
    except DataError as error:
        raise BrokenError(f"its {MANIFEST} is not one of this program") from error
    saved = Saved(folder, found.step, found.identity, found.counters, found.adjustable, found.changes, dict(found.files))
    if step_of(folder) != saved.step:
        raise BrokenError(f"its {MANIFEST} says step {saved.step}")
    sizes = {name: state.st_size for name, state in there.items() if name != MANIFEST}
    if sizes != {name: file.size for name, file in saved.files.items()}:
        raise BrokenError("a file is missing, unknown, or of another size")
    return saved


def check(saved: Saved, names: Iterable[str]) -> None:
    """Raises BrokenError if one of some files of a checkpoint cannot be read, or has another hash than in the manifest."""
    for name in names:
        try:
            found = digest(saved.folder / name)
        except OSError as error:
            raise BrokenError(f"{name} cannot be read: {error.strerror}") from error
        if found != saved.files[name]:
            raise BrokenError(f"{name} is not what was written")
