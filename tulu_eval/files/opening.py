"""Opens files for reading: regular files only, with gzip recognised by its first bytes and limits named in the messages."""

from __future__ import annotations

import gzip
import io
import os
import stat
import zlib
from pathlib import Path
from typing import Any

from tulu_eval.errors import DataError

LARGEST = 1 << 30
"""Largest file that is read into memory, in bytes; the list ShareGPT_V3_unfiltered_cleaned_split.json has 0.7 GB."""

UNPACKED = 1 << 32
"""Largest unpacked size of a gzip file, in bytes."""

GZIP = b"\x1f\x8b"
"""First bytes of a gzip file."""

_BOM = b"\xef\xbb\xbf"
_FOREIGN = (
    (b"PK\x03\x04", "a zip archive: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd: unpack it first"),
    (b"\xfd7zXZ\x00", "compressed by xz: unpack it first"),
    (b"BZh", "compressed by bzip2: unpack it first"),
    (b"\xff\xfe", "UTF-16: save it as UTF-8"),
    (b"\xfe\xff", "UTF-16: save it as UTF-8"),
)
"""First bytes of common file types that are not supported, with the message for each."""

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_file(path: Path, limit: int = UNPACKED) -> io.BufferedReader[Any]:
    """Returns a regular file open for reading, unpacked if its first bytes are gzip's, and past a byte order mark.

    Every error of a later read is a :class:`~tulu_eval.errors.DataError` too. Links are followed; ``limit`` is the largest
    unpacked size of gzip, in bytes.

    Raises:
        DataError: If the file is missing, not a regular file, unreadable, or of an unsupported type.
    """
    raw = open_regular(path)
    source: io.FileIO | gzip.GzipFile = raw
    try:
        start = os.pread(raw.fileno(), 8, 0)
        for magic, what in _FOREIGN:
            if start.startswith(magic):
                raise DataError(path, f"is {what}")
        if start.startswith(GZIP):
            source = gzip.GzipFile(fileobj=raw)
        file = io.BufferedReader(_Input(path, raw, source, limit if source is not raw else None), 1 << 17)
        if file.peek(3).startswith(_BOM):
            file.read(3)
    except OSError as error:
        raw.close()
        raise DataError(path, f"cannot be read: {error.strerror}") from error
    except DataError:
        raw.close()
        raise
    return file


def open_regular(path: Path) -> io.FileIO:
    """Returns a regular file open for reading, not unpacked; never waits for a pipe's writer, and never opens a device.

    Raises:
        DataError: If the file is missing, not a regular file, or unreadable.
    """
    try:
        _check_kind(path, os.stat(path).st_mode)
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise DataError(path, "is a broken link" if path.is_symlink() else "no such file") from error
    except OSError as error:
        raise DataError(path, f"cannot be read: {error.strerror}") from error
    except ValueError as error:  # a zero byte in the name
        raise DataError(path, f"is not a valid file name: {error}") from error
    file = io.FileIO(number)
    try:
        _check_kind(path, os.fstat(number).st_mode)
    except DataError:
        file.close()
        raise
    os.set_blocking(number, True)
    return file


def read_bytes(path: Path, limit: int = LARGEST) -> bytes:
    """Returns all bytes of a file, as :func:`open_file` gives them.

    Raises:
        DataError: If :func:`open_file` raises it, or the file has more than ``limit`` bytes.
    """
    with open_file(path, limit) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise DataError(path, f"has more than {in_bytes(limit)}, the limit for such a file")
    return data


def read_text(path: Path, limit: int = LARGEST) -> str:
    """Returns the text of a UTF-8 file with its line ends unchanged.

    Raises:
        DataError: If :func:`read_bytes` raises it, or the file is not UTF-8.
    """
    data = read_bytes(path, limit)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line, start = data.count(b"\n", 0, error.start) + 1, data.rfind(b"\n", 0, error.start) + 1
        raise DataError(path, f"is not UTF-8 (byte {error.start - start + 1} of the line)", line) from error


def in_bytes(size: int) -> str:
    """Returns a size in bytes as text for a message: ``4 GiB``, ``16 MiB``, ``10,000,000 bytes``."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB")):
        if size >= unit and size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size:,} bytes"


def _check_kind(path: Path, mode: int) -> None:
    for is_kind, name in _KINDS:
        if is_kind(mode):
            raise DataError(path, f"is {name}, not a file")


class _Input(io.RawIOBase):
    """The unpacked bytes of a file; every error names the file. ``limit`` is in bytes; ``None`` is no limit."""

    def __init__(self, path: Path, raw: io.FileIO, source: io.FileIO | gzip.GzipFile, limit: int | None) -> None:
        self._path, self._raw, self._source, self._limit = path, raw, source, limit

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return self._source.seek(offset, whence)

    def tell(self) -> int:
        return self._source.tell()

    def readinto(self, buffer: Any) -> int:
        try:
            count = int(self._source.readinto(buffer))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(self._path, f"cannot be unpacked: {error}") from error
        except OSError as error:
            raise DataError(self._path, f"cannot be read: {error.strerror}") from error
        if self._limit is not None and self._source.tell() > self._limit:
            raise DataError(self._path, f"unpacks to more than {in_bytes(self._limit)}, the limit for such a file")
        return count

    def close(self) -> None:
        if not self.closed:
            self._source.close()
            self._raw.close()
        super().close()
