"""Remembers where the data of a run is on this machine, so that ``audit``, ``explain`` and ``report`` need not be told again.

The user's cache has the path by the hash of the data. The manifest does not have it: run folders are published, and no folder
of anybody's machine belongs into them.
"""

from __future__ import annotations

import json
from pathlib import Path

from tulu_eval.caching import cached, file_sha256, read_json, write_quietly
from tulu_eval.errors import UserError
from tulu_eval.store.manifest_schema import Manifest


def note_data(data: Path | None, sha256: str) -> None:
    """Remembers the file or folder that a run reads, by the hash in its manifest; nothing for the benchmark's own source."""
    if data is not None:
        write_quietly(_note(sha256), json.dumps({"path": str(data.resolve())}))


def remembered_data(manifest: Manifest) -> Path | None:
    """Returns the file or folder that a run read; ``None`` if none is known here, or it is no longer there.

    The items of a folder are compared with those of the run when they are read.

    Raises:
        UserError: If a file is there and has another content than the run read.
    """
    sha256 = manifest.benchmark.data_sha256 or ""
    path = Path(str(read_json(_note(sha256)).get("path", "")))
    if not (sha256 and path.is_absolute() and path.exists()):
        return None
    if path.is_file() and file_sha256(path) != sha256:
        raise UserError(f"{path.name} has changed since the run read it; --data names a file with the run's items")
    return path


def _note(sha256: str) -> Path | None:
    return cached("data", f"{sha256[:64]}.json") if sha256.isalnum() else None
