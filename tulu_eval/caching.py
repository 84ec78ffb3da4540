"""The user's cache folder, and the hashes of large files, which are computed once and cached."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
from pathlib import Path

from tulu_eval import files
from tulu_eval.errors import DataError, UserError

SMALL = 1 << 26
"""Size in bytes up to which a file's hash is not cached; hashing 64 MiB takes 0.2 s."""

LIMIT = 100_000_000
"""Largest file that :func:`read_json` reads, in bytes."""


def cache_folder() -> Path:
    """Returns ``$XDG_CACHE_HOME/tulu-eval``, by default ``~/.cache/tulu-eval``; it may not exist yet.

    Raises:
        UserError: If neither the variable nor a home folder is known.
    """
    given = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(given) if given else Path.home() / ".cache") / "tulu-eval"
    except RuntimeError as error:
        raise UserError("there is no home folder to keep a cache in; set XDG_CACHE_HOME to a folder") from error


def file_sha256(path: Path) -> str:
    """Returns a file's sha256; does not read a large file whose hash is known.

    The name of a blob in the hub's cache is its sha256. For any other file of more than :data:`SMALL` bytes, the user's cache
    keeps the hash by path, size and modification time, because hashing an 8B checkpoint takes longer than planning a run. Of
    processes that ask at the same time, such as the ranks of training, one hashes it and the others wait.

    Raises:
        DataError: If the file cannot be read, or is not a regular file.
    """
    with files.open_regular(path) as file:
        real = path.resolve()
        if re.fullmatch(r"[0-9a-f]{64}", real.name) and real.parent.name == "blobs":
            return real.name
        state = os.fstat(file.fileno())
        note = _note(f"{real}\n{state.st_size}\n{state.st_mtime_ns}") if state.st_size > SMALL else None
        if note is None:
            return hashlib.file_digest(file, "sha256").hexdigest()
        known = _known(note)
        if not known:
            with contextlib.suppress(OSError):  # NFS locks only what is open for writing
                fcntl.flock(file, fcntl.LOCK_EX)
            known = _known(note)
        if not known:
            known = hashlib.file_digest(file, "sha256").hexdigest()
            write_quietly(note, known)
    return known


def _note(identity: str) -> Path | None:
    """Returns the path of the cached hash of a large file; ``None`` if there is no cache folder."""
    return cached("sha256", hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest())


def _known(note: Path) -> str:
    try:
        known = files.read_text(note, 64)
    except DataError:
        return ""  # not known yet, or not readable
    return known if re.fullmatch(r"[0-9a-f]{64}", known) else ""


def cached(*names: str) -> Path | None:
    """Returns the path of a cache file that only saves time; ``None`` if there is no home folder to keep a cache in."""
    try:
        return cache_folder().joinpath(*names)
    except UserError:
        return None


def write_quietly(path: Path | None, text: str) -> None:
    """Writes a small cache file atomically; ignores a cache that cannot be written, or is not there (``None``)."""
    with contextlib.suppress(UserError):
        if path is not None:
            files.write_text(path, text)


def read_json(path: Path | None) -> dict[str, object]:
    """Returns the JSON object of a small file; empty if the file is missing (``None`` too) or is not a JSON object."""
    try:
        data = None if path is None else files.read_json(path, LIMIT)
    except DataError:
        return {}
    return data if isinstance(data, dict) else {}
