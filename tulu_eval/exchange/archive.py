"""One file that holds a few named parts, the same bytes on every machine, and read as if an enemy had made it.

It is a zip archive that any tool opens, in one form only: parts in a fixed order, stored and not compressed, no time, no
folder, no comment. So the bytes follow from the parts alone (compressors differ between machines), nothing is ever
decompressed, and every byte is accounted for: what differs from the archive made anew from its own parts was changed.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tulu_eval import files
from tulu_eval.errors import DataError

LIMIT = 1 << 30
"""Bytes of the largest archive; a run of GSM8K's 1319 items has about 4 MB."""

_END = struct.Struct("<4s4H2LH")
_LOCAL, _CENTRAL = 30, 46
"""Bytes of a zip's records before the names in them (APPNOTE 4.3.7, 4.3.12); :data:`_END` is 4.3.16."""


class Part(NamedTuple):
    """A part as read: its bytes, where they begin in the file, and the checksum that the archive has for it."""

    data: bytes
    offset: int
    crc: int


class Archive(NamedTuple):
    """What :func:`unpack` read.

    Attributes:
        parts: By name, in the archive's order.
        odd: First byte of the file beside the parts that is not as :func:`pack` writes it; None if all are.
    """

    parts: dict[str, Part]
    odd: int | None


def pack(parts: Mapping[str, bytes]) -> bytes:
    """Returns the archive of some parts, in their order.

    Raises:
        ValueError: They are larger than :data:`LIMIT` together.
    """
    if sum(map(len, parts.values())) > LIMIT - 1_000_000:
        raise ValueError("the parts are too large for one archive")
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as file:
        for name, data in parts.items():
            info = zipfile.ZipInfo(name)  # its time is the format's first, 1980-01-01
            info.create_system = 3
            info.external_attr = 0o100644 << 16
            file.writestr(info, data)
    return stream.getvalue()


def unpack(path: Path, known: tuple[str, ...]) -> Archive:
    """Returns the parts of an archive; nothing is written and nothing decompressed.

    Args:
        path: The file.
        known: Names that parts may have.

    Raises:
        DataError: It is not an archive of this form, or holds what none of ours can hold.
    """
    raw = _bytes(path)
    members = _members(path, raw)
    parts: dict[str, Part] = {}
    offset = 0
    for info in members:
        _check(path, info, known, parts)
        start = offset + _LOCAL + len(info.filename.encode())
        end = start + info.file_size
        if info.header_offset != offset or end > len(raw):
            raise DataError(path, f"its part {info.filename!r} is not where it must be: cut, joined or made by another tool")
        parts[info.filename] = Part(raw[start:end], start, info.CRC)
        offset = end
    made = pack({name: part.data for name, part in parts.items()})
    return Archive(parts, _first_difference(raw, _with_sums(made, parts)))


def locate(part: Part) -> tuple[int, int] | None:
    """Returns the place of the one byte of a part that was changed, and what it was; None where more than one was.

    A CRC-32 is linear: the difference of the two checksums is that of the changed byte, carried on over the bytes after it.
    Carried back until it fits into a byte it is at that byte; in ``n`` bytes another place fits with a chance of ``n / 2**24``.
    """
    difference = zlib.crc32(part.data) ^ part.crc
    if not difference:
        return None
    table = _crc_table()
    by_top = {entry >> 24: place for place, entry in enumerate(table)}
    for place in range(len(part.data) - 1, -1, -1):
        low = by_top[difference >> 24]
        difference = ((difference ^ table[low]) << 8 | low) & 0xFFFFFFFF
        if difference < 256:
            return place, part.data[place] ^ difference
    return None


def _crc_table() -> list[int]:
    table = []
    for entry in range(256):
        for _ in range(8):
            entry = entry >> 1 ^ (0xEDB88320 if entry & 1 else 0)
        table.append(entry)
    return table


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
    """Returns the archive's directory, its size looked at before it is read."""
    if len(raw) < _END.size or not raw.startswith(b"PK\x03\x04"):
        raise DataError(path, "is not a bundle: 'tulu-eval bundle' makes one of a run")
    signature, _, _, _, count, size, _, comment = _END.unpack(raw[-_END.size :])
    if signature != b"PK\x05\x06" or comment:
        raise DataError(path, "ends in the middle, or with what no bundle has at its end; copy or download it again")
    if count > 32 or size > 4096:
        raise DataError(path, f"holds {count} parts in a directory of {size} bytes, which no bundle does")
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as file:
            return file.infolist()
    except (zipfile.BadZipFile, ValueError, struct.error, NotImplementedError, OverflowError, OSError) as error:
        raise DataError(path, f"its directory of parts cannot be read: {error}") from error


def _check(path: Path, info: zipfile.ZipInfo, known: tuple[str, ...], seen: Mapping[str, Part]) -> None:
    name = info.orig_filename
    if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or name[1:2] == ":":
        raise DataError(path, f"holds a part {name!r} that leads out of the archive; it is refused")
    if name != info.filename or name not in known:
        raise DataError(path, f"holds a part {name!r}, which no bundle of this version has")
    if name in seen:
        raise DataError(path, f"holds the part {name!r} twice")
    if info.external_attr >> 16 & 0o170000 not in (0, 0o100000):
        raise DataError(path, f"its part {name!r} is a link or another special file; it is refused")
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
        sizes = f"{info.file_size:,} bytes from {info.compress_size:,}"
        raise DataError(path, f"its part {name!r} is compressed ({sizes}), which none of a bundle is; it is refused")
    if info.flag_bits or info.extra or info.comment:
        raise DataError(path, f"its part {name!r} is encrypted or has what no part of a bundle has beside its bytes")


def _with_sums(made: bytes, parts: Mapping[str, Part]) -> bytes:
    """Returns an archive with the checksums that were read in place of those of its bytes; each stands in two places."""
    patched = bytearray(made)
    directory = max((part.offset + len(part.data) for part in parts.values()), default=0)
    for name, part in parts.items():
        length = len(name.encode())
        for place in (part.offset - length - _LOCAL + 14, directory + 16):
            patched[place : place + 4] = struct.pack("<L", part.crc)
        directory += _CENTRAL + length
    return bytes(patched)


def _first_difference(a: bytes, b: bytes) -> int | None:
    if a == b:
        return None
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if a[:middle] == b[:middle] else (low, middle - 1)
    return low
