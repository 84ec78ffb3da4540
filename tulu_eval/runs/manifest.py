"""A run folder's ``manifest.json`` and ``result.json``: what was done, and what came out.

The manifest is written before the first sample and completed after the last. No path, host name or environment variable of the
machine goes into it. ``result.json`` has no times in it, so that two runs with the same samples have the same bytes; it holds
a hash of the samples and of itself, which shows an edit by hand.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from tulu_eval import __version__
from tulu_eval.errors import DataError, UserError
from tulu_eval.files import write_json as write_json
from tulu_eval.files import write_text as write_text
from tulu_eval.records import Result, content_hash
from tulu_eval.runs import environment
from tulu_eval.runs.ledger import timeless
from tulu_eval.runs.plan import Plan

FORMAT = 1
"""Version of the run folder's files; a folder of another version is refused, never guessed at."""

LOCK_SECONDS = 1.0
"""How long a lock is waited for."""

MANIFEST = "manifest.json"
RESULT = "result.json"
LEDGER = "samples.jsonl"


def describe(plan: Plan) -> dict[str, Any]:
    """Returns the part of the manifest that is known before anything is loaded."""
    order, facts = plan.order, plan.facts
    return {
        "format": FORMAT,
        "settings_sha256": plan.settings_sha256,
        **facts,
        "protocol": {**facts["protocol"], "sha256": content_hash(plan.protocol)},
        "seed": order.seed,
        "limit": order.limit,
        "items": {name: list(ids) for name, ids in plan.members.items()},
        "planned": [planned.item.id for planned in plan.planned],
        "engine": {},
        "packages": environment.packages(),
        "commit": environment.commit(),
        "machine": environment.machine(),
        "command": command_line(),
        "sessions": [],
        "status": "running",
        **({"shard": list(order.shard)} if order.shard else {}),
    }


def command_line() -> list[str]:
    """Returns the command as typed, the program's folder and the folders of absolute paths left out."""
    words = [Path(sys.argv[0]).name, *sys.argv[1:]]
    return [Path(word).name if word.startswith(("/", "~")) else word for word in words]


def now() -> str:
    """Returns the time in UTC to the second, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Returns a run folder's manifest.

    Raises:
        DataError: Not a run folder, not JSON, or of another version.
    """
    path = folder / MANIFEST
    if not folder.is_dir():
        raise DataError(folder, "no such run folder")
    if not path.exists():
        raise DataError(folder, f"is not a run folder: it has no {MANIFEST}")
    data = _read(path)
    if data.get("format") != FORMAT:
        raise DataError(path, f"is of format {data.get('format')!r}; tulu-eval {__version__} reads format {FORMAT}")
    return data


def read_results(folder: Path, maker: str = "'tulu-eval score' makes it again from the samples") -> tuple[Result, ...]:
    """Returns the rows of a folder's ``result.json``.

    Args:
        folder: Of a run, or of a judge's verdicts on one.
        maker: What to do where it was changed.

    Raises:
        DataError: Missing, of another version, or changed since it was written.
    """
    path = folder / RESULT
    if not path.exists():
        raise DataError(folder, f"has no {RESULT}; the run is not finished: run the same command again, or 'tulu-eval score'")
    data = _read(path)
    if data.get("format") != FORMAT:
        raise DataError(path, f"is of format {data.get('format')!r}; tulu-eval {__version__} reads format {FORMAT}")
    own = data.pop("sha256", None)
    if own != content_hash(data):
        raise DataError(path, f"was changed after it was written (its hash differs); {maker}")
    try:
        return tuple(Result.from_json(row) for row in data["results"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(path, f"is not a result of this version: {error}") from error


def write_results(folder: Path, results: Sequence[Result], samples: str) -> None:
    """Writes ``result.json``: the rows, the hash of the samples they were computed from, and its own hash."""
    data: dict[str, Any] = {"format": FORMAT, "results": [_jsonable(row) for row in results], "samples_sha256": samples}
    write_json(folder / RESULT, {**data, "sha256": content_hash(data)})


def samples_hash(lines: Iterable[bytes]) -> str:
    """Returns one hash over the lines of samples, in whatever order they finished and however long they took."""
    return combined(hashlib.sha256(timeless(line)).digest() for line in lines)


def combined(digests: Iterable[bytes]) -> str:
    """Returns one hash over hashes, in whatever order."""
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Makes a run folder if need be and keeps every other process off it.

    Raises:
        UserError: It cannot be written, or another process has it.
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
    """Takes the lock; a process that was just killed can leave it held for a moment, by a child that had not started yet."""
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


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(path, f"cannot be read as JSON: {error}") from error
    if not isinstance(data, dict):
        raise DataError(path, "is not a JSON object")
    return data


def _jsonable(record: Any) -> dict[str, Any]:
    return dataclasses.asdict(record)
