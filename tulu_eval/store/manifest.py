"""Writes and reads a run folder's ``manifest.json`` (what the run did) and ``result.json`` (its numbers).

A run writes the manifest before the first sample and completes it after the last. The manifest has no path, host name or
environment variable of the machine in it. ``result.json`` has no times in it, so two runs with the same samples write the same
bytes. It has a hash of the samples and a hash of itself, which show an edit by hand.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal

from msgspec.structs import replace

from tulu_eval.errors import DataError, UserError
from tulu_eval.files import read_json
from tulu_eval.files import write_json as write_json
from tulu_eval.files import write_text as write_text
from tulu_eval.records import Result, content_hash
from tulu_eval.store import schema
from tulu_eval.store.manifest_schema import MANIFEST_BYTES, Manifest, checked_manifest
from tulu_eval.store.sample_line import timeless, ungraded
from tulu_eval.store.setup_schema import plain
from tulu_eval.store.tally import Tally
from tulu_eval.version import __version__

FORMAT: Literal[1] = 1
"""Version of the run folder's files; a folder of another version is refused, never guessed at."""

LOCK_SECONDS = 1.0
"""Seconds to wait for a lock."""

_FREE = ("sessions", "status", "tally", "answers_sha256", "command", "commit", "machine", "engine", "shard")
"""Fields that :func:`manifest_hash` leaves out: they change during a run, or differ between two runs with equal results."""

MANIFEST = "manifest.json"
RESULT = "result.json"
LEDGER = "samples.jsonl"


def command_line() -> tuple[str, ...]:
    """Returns the words of the command line without the folders of the program and of absolute paths."""
    return (Path(sys.argv[0]).name, *map(_without_folder, sys.argv[1:]))


def _without_folder(word: str) -> str:
    """Returns a word whose absolute path, behind ``--option=`` or ``NAME=`` too, has lost its folder."""
    before, equals, path = ("", "", word) if word.startswith(("/", "~")) else word.partition("=")
    return before + equals + (Path(path).name if path.startswith(("/", "~")) else path)


def now() -> str:
    """Returns the time in UTC to the second, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_manifest(folder: Path) -> Manifest:
    """Returns a run folder's manifest.

    Raises:
        DataError: If the folder is not a run's, or the file is not JSON, has another version, or has a field that is missing,
            unknown, or not of its type or range.
    """
    path = folder / MANIFEST
    try:
        if not folder.is_dir():
            raise DataError(folder, "no such run folder")
        if not path.exists() and not path.is_symlink():
            raise DataError(folder, f"is not a run folder: it has no {MANIFEST}")
    except OSError as error:
        raise DataError(folder, f"cannot be read: {error.strerror}") from error
    return checked_manifest(path, _of_format(path, MANIFEST_BYTES))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes a run folder's manifest."""
    write_json(folder / MANIFEST, {"format": manifest.format, **plain(manifest)})


@dataclasses.dataclass(frozen=True, slots=True)
class Recorded:
    """The content of a folder's ``result.json``.

    Attributes:
        rows: Rows that were computed from the samples or the judgments.
        samples_sha256: Hash of these graded samples (:func:`samples_hash`), or of these judgments.
        answers_sha256: Hash of the same samples without their grades (:func:`answers_hash`); empty in an older file.
        manifest_sha256: Hash of the run's manifest at that time (:func:`manifest_hash`); empty in an older file.
        graded_by: Version of the benchmark that graded the samples; ``None`` in an older file.
    """

    rows: tuple[Result, ...]
    samples_sha256: str
    answers_sha256: str = ""
    manifest_sha256: str = ""
    graded_by: int | None = None


CHANGED = "was changed after it was written (its hash differs)"


def read_results(folder: Path) -> Recorded:
    """Returns the ``result.json`` of a run folder or of a judge's folder.

    Raises:
        DataError: If the file is missing, has another version, or was changed after it was written.
    """
    path = folder / RESULT
    if not path.exists():
        raise DataError(folder, f"has no {RESULT}")
    data = _of_format(path, schema.SMALL_BYTES)
    schema.check_results(path, data)
    own = data.pop("sha256")
    if own != content_hash(data):
        raise DataError(path, CHANGED)
    rows = tuple(Result.from_json(row) for row in data["results"])
    hashes = {name: str(data.get(name, "")) for name in ("samples_sha256", "answers_sha256", "manifest_sha256")}
    return Recorded(rows, **hashes, graded_by=data.get("graded_by"))


def write_results(folder: Path, recorded: Recorded, tally: Tally | None = None) -> None:
    """Writes ``result.json``: the rows, the tally of the run, the hashes of what they were computed from, and its own hash."""
    data: dict[str, Any] = {"format": FORMAT, **({"tally": dataclasses.asdict(tally)} if tally else {})}
    data |= {"results": [row.to_fields() for row in recorded.rows]}
    data |= {name: value for name, value in dataclasses.asdict(recorded).items() if name != "rows" and value not in ("", None)}
    write_json(folder / RESULT, {**data, "sha256": content_hash(data)})


def asked_hash(asked: tuple[str, str, str, str]) -> str:
    """Returns the hash, 16 hex digits, of the item, key, right answer and prompt's hash of one sample that a run asks for."""
    return content_hash(asked)[:16]


def with_asked(manifest: Manifest, asked: Iterable[tuple[str, str, str, str]]) -> Manifest:
    """Returns a manifest with the keys and hashes of the samples that its run asks for.

    ``asked`` has item, key, right answer and hash of the prompt of each planned sample, in the run's order.
    """
    asked = list(asked)
    return replace(manifest, keys=tuple(key for _, key, _, _ in asked), asked=tuple(map(asked_hash, asked)))


def manifest_hash(manifest: Manifest) -> str:
    """Returns the hash of a manifest's model, items, prompts, settings and packages: of all fields but :data:`_FREE`."""
    return content_hash({name: value for name, value in plain(manifest).items() if name not in _FREE})


def answers_hash(lines: Iterable[bytes]) -> str:
    """Returns one hash over the lines of samples without their grades; the order of the lines does not matter."""
    return combined(hashlib.sha256(ungraded(line)).digest() for line in lines)


def samples_hash(lines: Iterable[bytes]) -> str:
    """Returns one hash over the lines of samples without their times; the order of the lines does not matter."""
    return combined(hashlib.sha256(timeless(line)).digest() for line in lines)


def combined(digests: Iterable[bytes]) -> str:
    """Returns one hash over hashes; their order does not matter."""
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Makes a run folder if it is missing, and locks it against every other process.

    Raises:
        UserError: If the folder cannot be written, or another process has the lock.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise UserError(f"the run folder {folder} cannot be written: {error.strerror}; choose another with --output") from error
    with lock:
        _take(lock, folder)
        yield


def _take(lock: IO[str], folder: Path) -> None:
    """Takes the lock; waits a moment, since a child of a process that was just killed can still hold it."""
    last = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > last:
                raise UserError(f"another process is writing to {folder}; wait for it, or choose another --output") from error
            time.sleep(0.02)
        except OSError as error:
            raise UserError(f"the run folder {folder} cannot be locked: {error.strerror}") from error


def _of_format(path: Path, limit: int) -> dict[str, Any]:
    """Returns the JSON object of a file in this version's format; raises DataError if it cannot be read or is anything else."""
    data = read_json(path, limit)
    if not isinstance(data, dict):
        raise DataError(path, "is not a JSON object")
    if type(data.get("format")) is not int or data["format"] != FORMAT:
        found = data.get("format")
        raise DataError(path, f"is of format {found!r:.80}; tulu-eval {__version__} reads format {FORMAT}")
    return data
