"""The user's cache folder, and hashes of large files that are computed once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from pathlib import Path


def cache_folder() -> Path:
    """Returns ``$XDG_CACHE_HOME/tulu-eval``, by default ``~/.cache/tulu-eval``; it may not exist yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tulu-eval"


def file_sha256(path: Path) -> str:
    """Returns a file's sha256, without reading it where it is known already.

    A blob of the hub's cache is named by its sha256. Any other file's hash is remembered in the user's cache by path, size
    and modification time, since hashing an 8B checkpoint takes longer than planning a run.
    """
    real = path.resolve()
    if re.fullmatch(r"[0-9a-f]{64}", real.name) and real.parent.name == "blobs":
        return real.name
    state = real.stat()
    identity = f"{real}\n{state.st_size}\n{state.st_mtime_ns}"
    note = cache_folder() / "sha256" / hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()
    try:
        known = note.read_text()
        if re.fullmatch(r"[0-9a-f]{64}", known):
            return known
    except (OSError, UnicodeDecodeError):
        pass  # not known yet, or not readable: hash it
    with real.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    write_quietly(note, digest)
    return digest


def write_quietly(path: Path, text: str) -> None:
    """Writes a small cache file in one step; a cache that cannot be written is no error."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, object]:
    """Returns a JSON object; empty where the file is missing or is not one."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
