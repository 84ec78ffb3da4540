"""Loads the gamed rows and difficulties of the length-controlled fit: ``df_gamed.csv``, from the hub or from a file."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

from tulu_eval import files
from tulu_eval.benchmarks.alpaca_set import SIZE, fetch, file_hash
from tulu_eval.caching import cached, write_quietly
from tulu_eval.errors import DataError

if TYPE_CHECKING:
    from tulu_eval.stats.length_control import Array, Gamed

LIMIT = 10_000_000
"""Largest size of a file of gamed rows in bytes; the known files have 0.15 MB."""

GAMED_FILE = "df_gamed.csv"
GAMED_SHA256 = {
    "97aeec3f1c7de6dee6fd31fe66f1702623f4614c3efe1c6fc5f4927cd5fd674d": "hub",
    "5ca339e333ee5fe0c692d2565c0c9c32a2732f4d03ee5bb6d3a42108201a7444": "re-derived",
}
"""Sources by sha256: the hub's file, and one re-derived from published fits: true features, synthetic labels, true sums."""


@dataclasses.dataclass(frozen=True, slots=True)
class GamedFile:
    """The content of ``df_gamed.csv``.

    Attributes:
        gamed: The 1610 rows, as the fit takes them.
        difficulty: Difficulties of the 805 instructions in the data set's order; shape (805,).
        source: ``hub`` or ``re-derived``.
    """

    gamed: Gamed
    difficulty: Array
    source: str
    sha256: str


def load_gamed(path: Path | None = None) -> GamedFile:
    """Returns the gamed rows and the difficulties, from the hub or from a file with a known sha256.

    It copies the file into the user's cache, so that :func:`find_gamed` finds it when a number is checked later.

    Raises:
        DataError: If the file's sha256 is not a known one.
        PreflightError: If the hub cannot be reached and the file is not cached.
    """
    import numpy as np

    from tulu_eval.stats.length_control import Gamed

    path = fetch(GAMED_FILE, "--gamed") if path is None else path
    data = files.read_bytes(path, LIMIT)
    digest = hashlib.sha256(data).hexdigest()
    if digest not in GAMED_SHA256:
        known = ", ".join(f"{one[:16]}..." for one in GAMED_SHA256)
        raise DataError(path, f"is not {GAMED_FILE}: its sha256 is {digest[:16]}..., known are {known}")
    text = data.decode("utf-8")
    if not _is_kept(digest):
        write_quietly(_copy(digest), text)
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    names = ("preference", "std_delta_len", "instruction_difficulty", "index")
    columns = {name: np.array([float(row[name]) for row in rows]) for name in names}
    difficulty = np.full(SIZE, np.nan)
    for place, value in zip(columns["index"][::-1].astype(int), columns["instruction_difficulty"][::-1], strict=True):
        difficulty[place] = value
    gamed = Gamed(columns["preference"], columns["std_delta_len"], columns["instruction_difficulty"])
    return GamedFile(gamed, difficulty, GAMED_SHA256[digest], digest)


def find_gamed(source: str) -> GamedFile | None:
    """Returns the gamed rows from the user's cache, ``None`` if it has no copy; does not ask the hub.

    ``source`` is ``hub`` or ``re-derived``; empty for either.
    """
    for digest, name in GAMED_SHA256.items():
        path = _copy(digest)
        if path is not None and source in (name, "") and _is_kept(digest) and file_hash(path) == digest:
            return load_gamed(path)
    return None


def copies() -> list[str]:
    """Returns the sha256 of each file of gamed rows in the user's cache."""
    return [digest for digest in GAMED_SHA256 if _is_kept(digest)]


def _is_kept(digest: str) -> bool:
    """Returns whether the cache has a copy; a cache that cannot be looked into, such as one with too long a name, has none."""
    path = _copy(digest)
    return path is not None and os.path.isfile(path)


def _copy(digest: str) -> Path | None:
    return cached("alpaca_eval", f"df_gamed-{digest[:16]}.csv")
