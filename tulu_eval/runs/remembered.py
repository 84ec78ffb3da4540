"""Keeps readings of runs in the user's cache, so that a table of hundreds of runs does not grade all of them again.

The name of a reading depends on content alone: on the sha256 of every file that was read, of the code that read it (this
package's readers and scorers, and the benchmark's own module), and of the gamed rows that LC needs. One changed byte makes
another name; times of files do not matter.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tulu_eval import files
from tulu_eval.benchmarks.base import Benchmark
from tulu_eval.caching import cached, read_json, write_quietly
from tulu_eval.judging import gamed
from tulu_eval.records import Result, content_hash
from tulu_eval.store.tally import Tally
from tulu_eval.version import __version__

FILES = ("manifest.json", "result.json", "samples.jsonl", "samples.jsonl.gz", "digests.jsonl")
JUDGED_FILES = ("result.json", "judgments.jsonl", "labels.jsonl", "judging.json")
"""Files that a reading depends on: those of a run, and those of each folder in its ``judged``."""


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """The result of reading a run; :class:`tulu_eval.runs.reading.StoredRun` describes the fields."""

    results: tuple[Result, ...]
    tally: Tally
    doubts: tuple[str, ...]
    notes: tuple[str, ...]
    regraded: bool
    unhashed: str
    lc_ranges: Mapping[str, tuple[float, float]]


def name_of(folder: Path, benchmark: Benchmark | None) -> str:
    """Returns the name of a folder's reading, 64 hex digits.

    Raises:
        OSError: If a file cannot be read.
        DataError: If one of the files is not a regular file.
    """
    paths = [folder / name for name in FILES]
    paths += [judge / name for judge in sorted(folder.glob("judged/*")) for name in JUDGED_FILES]
    hashes = {path.relative_to(folder).as_posix(): _sha256(path) for path in paths if path.exists()}
    code = _code(type(benchmark), benchmark.version) if benchmark else _code(None, 0)
    return content_hash([__version__, hashes, code, gamed.copies() if (folder / "judged").exists() else []])


def recall(name: str) -> Reading | None:
    """Returns the reading of a name from the cache; ``None`` if the cache does not have it, or has it in another form."""
    data: dict[str, Any] = dict(read_json(_path(name)))
    try:
        rows = tuple(Result.from_json(row) for row in data["results"])
        doubts, notes = (tuple(map(str, data[field])) for field in ("doubts", "notes"))
        ranges = {str(name): (float(low), float(high)) for name, (low, high) in data["lc_ranges"].items()}
        return Reading(rows, Tally(**data["tally"]), doubts, notes, bool(data["regraded"]), str(data["unhashed"]), ranges)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def note(name: str, reading: Reading) -> None:
    """Writes a reading to the cache; does nothing if the cache cannot be written."""
    write_quietly(_path(name), json.dumps(dataclasses.asdict(reading), ensure_ascii=True))


def _path(name: str) -> Path | None:
    return cached("readings", name[:2], f"{name}.json")


def _sha256(path: Path) -> str:
    with files.open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


ROOMS = ("runs", "store", "files", "benchmarks", "judging", "stats")
"""Rooms whose code decides what is read out of a run folder."""


@functools.lru_cache(maxsize=64)
def _code(benchmark: type[Benchmark] | None, version: int) -> str:
    """Returns the hash of the code that reads runs and, if it is installed, of the benchmark that grades them."""
    package = Path(__file__).parents[1]
    sources = [package / "records.py", *(path for room in ROOMS for path in sorted((package / room).rglob("*.py")))]
    own = inspect.getsourcefile(benchmark) if benchmark else None
    sources += [Path(own)] if own else []
    return content_hash([version, *(_sha256(path) for path in sources)])
