"""The user's cache folder, and hashes of large files that are computed once."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from pathlib import Path

from tulu_eval import files
from tulu_eval.errors import DataError, UserError

SMALL = 1 << 26
"""Bytes up to which a file is hashed each time it is asked for; 64 MiB take 0.2 s."""

LIMIT = 100_000_000
"""Bytes of the largest file that :func:`read_json` reads."""


def cache_folder() -> Path:
    """Returns ``$XDG_CACHE_HOME/tulu-eval``, by default ``~/.cache/tulu-eval``; it may not exist yet.

    Raises:
        UserError: Neither is known.
    """
    given = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(given) if given else Path.home() / ".cache") / "tulu-eval"
    except RuntimeError as error:
        raise UserError("there is no home folder to keep a cache in; set XDG_CACHE_HOME to a folder") from error


def file_sha256(path: Path) -> str:
    """Returns a file's sha256, without reading it where it is large and known already.

    A blob of the hub's cache is named by its sha256. The hash of any other file of more than :data:`SMALL` bytes is remembered
    in the user's cache by path, size and modification time, since hashing an 8B checkpoint takes longer than planning a run.

    Raises:
        DataError: It cannot be read, or is no regular file.
    """
    with files.open_regular(path) as file:
        real = path.resolve()
        if re.fullmatch(r"[0-9a-f]{64}", real.name) and real.parent.name == "blobs":
            return real.name
        state = os.fstat(file.fileno())
        note = _note(f"{real}\n{state.st_size}\n{state.st_mtime_ns}") if state.st_size > SMALL else None
        known = _known(note) if note else ""
        digest = known or hashlib.file_digest(file, "sha256").hexdigest()
    if note and not known:
        write_quietly(note, digest)
    return digest


def _note(identity: str) -> Path | None:
    """Returns where the hash of a large file is remembered; None where there is no cache."""
    try:
        return cache_folder() / "sha256" / hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()
    except UserError:
        return None


def _known(note: Path) -> str:
    try:
        known = files.read_text(note, 64)
    except DataError:
        return ""  # not known yet, or not readable
    return known if re.fullmatch(r"[0-9a-f]{64}", known) else ""


def write_quietly(path: Path, text: str) -> None:
    """Writes a small cache file in one step; a cache that cannot be written is no error."""
    with contextlib.suppress(UserError):
        files.write_text(path, text)


def read_json(path: Path) -> dict[str, object]:
    """Returns the JSON object of a small file; empty where the file is missing or is not one."""
    try:
        data = files.read_json(path, LIMIT)
    except DataError:
        return {}
    return data if isinstance(data, dict) else {}
