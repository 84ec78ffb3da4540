"""One file that holds a few named parts: the same parts give the same bytes on every machine.

It is a zip archive that any tool opens, in one form only: parts in a fixed order, stored and not compressed, without times,
folders or comments. So its bytes follow from the parts alone (compressors differ between machines), reading it decompresses
nothing, and a file that differs from the archive made anew from its own parts was changed.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path

from tulu_eval import files
from tulu_eval.errors import DataError

LIMIT = 1 << 30
"""Largest size of an archive in bytes; that of a run of GSM8K's 1,319 items has about 4 MB."""

_END = struct.Struct("<4s4H2LH")
"""The record at a zip's end, without comment (APPNOTE 4.3.16)."""

_LOCAL = 30
"""Size in bytes of the record before a part, without the part's name (APPNOTE 4.3.7)."""


def pack(parts: Mapping[str, bytes]) -> bytes:
    """Returns the archive of some parts, in their order."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as file:
        for name, data in parts.items():
            info = zipfile.ZipInfo(name)  # its time is the format's first, 1980-01-01
            info.create_system = 3
            info.external_attr = 0o100644 << 16
            file.writestr(info, data)
    return stream.getvalue()


def unpack(path: Path, known: Collection[str]) -> tuple[dict[str, bytes], bool]:
    """Returns the parts of an archive by name, and whether the file is, byte for byte, the archive that :func:`pack` makes.

    ``known`` has the names that parts may have.

    Raises:
        DataError: If the file is not an archive, or has a part that :func:`pack` does not write.
    """
    raw = _bytes(path)
    parts: dict[str, bytes] = {}
    end = 0
    for info in _members(path, raw):
        name = info.filename
        if name not in known or name != info.orig_filename:
            raise DataError(path, f"has a part {info.orig_filename!r}, which no bundle of this version has")
        if name in parts:
            raise DataError(path, f"has the part {name!r} twice")
        if info.compress_type != zipfile.ZIP_STORED or info.header_offset != end:
            raise DataError(
                path, f"its part {name!r} is compressed or not where it must be, so 'tulu-eval bundle' did not make it"
            )
        start = end + _LOCAL + len(name.encode())
        end = start + info.file_size
        parts[name] = raw[start:end]
    return parts, pack(parts) == raw


def _bytes(path: Path) -> bytes:
    try:
        with files.open_regular(path) as file:
            data = file.read(LIMIT + 1) or b""
    except OSError as error:
        raise DataError(path, f"cannot be read: {error.strerror}") from error
    if len(data) > LIMIT:
        raise DataError(path, f"is larger than {LIMIT:,} bytes, which no bundle is")
    return data


def _members(path: Path, raw: bytes) -> list[zipfile.ZipInfo]:
    """Returns the entries of the archive's directory; checks the directory's size before it reads it."""
    if len(raw) < _END.size or not raw.startswith(b"PK\x03\x04"):
        raise DataError(path, "is not a bundle: 'tulu-eval bundle' makes one of a run")
    signature, _, _, _, count, size, _, comment = _END.unpack(raw[-_END.size :])
    if signature != b"PK\x05\x06" or comment:
        raise DataError(path, "is cut off, or has other bytes after its end; copy or download it again")
    if count > 32 or size > 4096:
        raise DataError(path, f"has {count} parts in a directory of {size} bytes, which no bundle has")
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as file:
            return file.infolist()
    except (zipfile.BadZipFile, ValueError, struct.error, NotImplementedError, OverflowError, OSError) as error:
        raise DataError(path, f"its directory of parts cannot be read: {error}") from error
