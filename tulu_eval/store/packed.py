"""Reads ledgers that were packed for publishing: every reader accepts ``samples.jsonl.gz``, made by ``gzip samples.jsonl``."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import BinaryIO

from tulu_eval import files
from tulu_eval.errors import DataError

MOST_BYTES = 1 << 32
"""Largest size of an unpacked ledger in bytes; a million samples need less."""

_BLOCK = 1 << 20


def packed(path: Path) -> Path:
    """Returns the path of a file's packed form."""
    return path.with_name(path.name + ".gz")


def there(path: Path) -> bool:
    """Whether a file or its packed form exists."""
    return path.exists() or packed(path).exists()


def unpack(path: Path) -> BinaryIO:
    """Returns an open temporary file with the unpacked bytes of a file's packed form.

    Raises:
        DataError: If the packed file is not gzip, was cut, or unpacks to more than :data:`MOST_BYTES`.
        OSError: If it cannot be read, or the disk is full.
    """
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(tempfile.TemporaryFile(prefix="tulu-eval-"))
        _copy(path, file)
        stack.pop_all()
    return file


def unpack_in_place(path: Path) -> None:
    """Replaces a file's packed form by the file itself; raises the same errors as :func:`unpack`."""
    with files.replacing(path) as file:
        _copy(path, file)
    packed(path).unlink()


def _copy(path: Path, to: BinaryIO) -> None:
    with files.open_regular(packed(path)) as raw:
        if raw.read(2) != files.GZIP:
            raise DataError(packed(path), "cannot be unpacked: it is not gzip")
    with files.open_file(packed(path), MOST_BYTES) as source:
        while block := source.read(_BLOCK):
            to.write(block)
    to.flush()
