"""A ledger packed for publishing: ``gzip samples.jsonl`` leaves ``samples.jsonl.gz``, which every reader takes as well."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import BinaryIO

from tulu_eval import files
from tulu_eval.errors import DataError

MOST_BYTES = 1 << 32
"""More than a million samples have; what unpacks to more is not a ledger."""

_BLOCK = 1 << 20


def packed(path: Path) -> Path:
    """Returns where the packed form of a file is."""
    return path.with_name(path.name + ".gz")


def there(path: Path) -> bool:
    """Whether a file or its packed form exists."""
    return path.exists() or packed(path).exists()


def unpack(path: Path) -> BinaryIO:
    """Returns a temporary file, open for reading, with the bytes of a packed file.

    Raises:
        DataError: It is not gzip, it was cut, or it unpacks to more than a ledger can be.
        OSError: It cannot be read, or the disk is full.
    """
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(tempfile.TemporaryFile(prefix="tulu-eval-"))
        _copy(path, file)
        stack.pop_all()
    return file


def unpack_in_place(path: Path) -> None:
    """Puts a file in the place of its packed form, in one step; raises as :func:`unpack`."""
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
