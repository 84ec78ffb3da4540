"""The header of a GGUF file, read to its end before the packages that convert the file believe it.

Those go round a loop as often as a length says (gguf 0.19, ``gguf_reader.py``: an array of 2^40 numbers in a file of 100 bytes
takes all memory), and make a model of the sizes that the metadata states. (Format: ggml, ``docs/gguf.md``.)
"""

from __future__ import annotations

import math
import re
import struct
from pathlib import Path
from typing import Any, NamedTuple

from tulu_eval.errors import DataError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
"""Versions of the format that the package gguf 0.19 reads (``gguf_reader.py``, ``READER_SUPPORTED_VERSIONS``)."""

MAX_HEADER = 1 << 28
"""Bytes that are looked at. A vocabulary of 256,000 tokens with as many merges takes 10 MB."""

MAX_DIMENSIONS = 4
"""Most dimensions of a tensor (ggml, ``GGML_MAX_DIMS``)."""

MOST_PER_BYTE = 8
"""Weights that a byte of a file can hold; the densest type of ggml, IQ1_S, has 1.56 bits a weight, which is 5.1."""

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
"""Types of metadata values, as ``struct`` has them."""
_STRING, _ARRAY = 8, 9

_BLOCK = re.compile(r"blk\.(\d{1,9})\.")


class Header(NamedTuple):
    """What a header says.

    Attributes:
        metadata: Numbers by key; texts and lists are left out.
        tensors: Dimensions by name.
    """

    metadata: dict[str, int | float]
    tensors: dict[str, tuple[int, ...]]


def check(path: Path) -> int:
    """Refuses a GGUF file whose header says more than the file can hold, or sizes that its tensors do not have.

    Returns:
        The number of weights in its tensors.

    Raises:
        DataError: If the header is cut off, too large or inconsistent; the message says how.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            data = file.read(min(size, MAX_HEADER))
    except OSError as error:
        raise DataError(path, f"cannot be read: {error.strerror}") from error
    if not data.startswith(MAGIC):
        raise DataError(path, "is not a GGUF file")
    version = int.from_bytes(data[4:8], "little")
    if len(data) >= 8 and version not in VERSIONS:
        raise DataError(path, f"is of GGUF version {version}; versions {VERSIONS[0]} and {VERSIONS[1]} can be read")
    try:
        header = _Reader(data).header(size)
    except (struct.error, ValueError) as error:
        raise DataError(path, "is a cut or corrupt GGUF file: its header says more than it has; download it again") from error
    reason = _misfit(header)
    if reason:
        raise DataError(path, f"is a corrupt GGUF file: {reason}")
    return sum(map(math.prod, header.tensors.values()))


class _Reader:
    """Reads one value after the other; whatever is beyond the end raises ``struct.error`` or ``ValueError``."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 8  # behind magic and version

    def header(self, size: int) -> Header:
        tensors, entries = self._take("<Q"), self._take("<Q")
        metadata: dict[str, int | float] = {}
        for _ in range(entries):
            key = self._text()
            value = self._value(self._take("<I"))
            if isinstance(value, int | float):
                metadata[key] = value
        shapes: dict[str, tuple[int, ...]] = {}
        for _ in range(tensors):
            name, count = self._text(), self._take("<I")
            if count > MAX_DIMENSIONS or name in shapes:
                raise ValueError
            shapes[name] = tuple(self._take("<Q") for _ in range(count))
            self._take("<I")  # its type
            if self._take("<Q") > size:
                raise ValueError
        if sum(map(math.prod, shapes.values())) > MOST_PER_BYTE * size:
            raise ValueError
        return Header(metadata, shapes)

    def _take(self, form: str) -> Any:
        (value,) = struct.unpack_from(form, self._data, self._at)
        self._at += struct.calcsize(form)
        return value

    def _skip(self, length: int) -> bytes:
        if length > len(self._data) - self._at:
            raise ValueError
        self._at += length
        return self._data[self._at - length : self._at]

    def _text(self) -> str:
        return self._skip(self._take("<Q")).decode()

    def _value(self, kind: int) -> Any:
        if kind in _SCALARS:
            return self._take(_SCALARS[kind])
        if kind == _STRING:
            return self._text()
        if kind != _ARRAY:
            raise ValueError
        inner, count = self._take("<I"), self._take("<Q")
        if inner in _SCALARS:
            return self._skip(count * struct.calcsize(_SCALARS[inner]))
        if inner != _STRING:
            raise ValueError  # a list of lists, which nothing writes
        for _ in range(count):
            self._text()
        return None


def _misfit(header: Header) -> str:
    """Returns which size the metadata states that the tensors do not have."""
    sizes = {size for shape in header.tensors.values() for size in shape}
    blocks = {int(match[1]) for name in header.tensors if (match := _BLOCK.match(name))}
    for key, value in header.metadata.items():
        field = key.rpartition(".")[2]
        if field == "block_count" and value != len(blocks):
            return f"it says {value:,} layers, and has the tensors of {len(blocks):,}"
        if field in ("embedding_length", "vocab_size") and value not in sizes:
            return f"it says {key} = {value:,}, and no tensor has that size"
        if field.endswith(("_length", "_count", "_count_kv")) and "context" not in field and value > max(sizes, default=0):
            return f"it says {key} = {value:,}, more than any size of its tensors"
    return ""
