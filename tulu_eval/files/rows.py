"""Reads files of rows: JSON lines, a JSON list of objects, or parquet, whatever the file's name."""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tulu_eval.errors import DataError
from tulu_eval.files.opening import LARGEST, in_bytes, open_file, read_bytes
from tulu_eval.files.parsing import Place, T, decode, exactly, parse_json

LINE = 1 << 24
"""Largest size of a line or row in bytes; the longest in Tulu's training sets has under 2 MB."""

BLANKS = 1_000_000
"""Largest number of blank lines in a file; a gzip file of 4 MB can have four billion."""

BATCH = 256
"""Rows of a parquet file in memory at once."""

_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_ELEMENT = json.JSONDecoder()
_BLANK = " \t\r\n"
_GAP = re.compile(f"[{_BLANK}]*")


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One object of a file.

    Attributes:
        place: The file and the line (JSON lines) or the one-based row (list or parquet).
    """

    place: Place
    data: dict[str, Any]

    def error(self, message: str) -> DataError:
        """Returns an error whose message names the file and the row."""
        return self.place.error(message)

    def text(self, field: str) -> str:
        """Returns a text field of the row; raises DataError if the field is missing or not a text."""
        value = self.data.get(field)
        if not isinstance(value, str):
            raise self.error(f"field {field!r} is missing or not a string")
        return value


def read_json(path: Path, limit: int = LARGEST, *, nan: bool = False) -> Any:
    """Returns the JSON value of a file; ``nan`` as for :func:`~tulu_eval.files.parsing.parse_json`.

    Raises:
        DataError: If the file cannot be read, has more than ``limit`` bytes, or is not JSON.
    """
    return parse_json(read_bytes(path, limit), Place(path), nan=nan)


def read_as(path: Path, kind: type[T], limit: int = LARGEST) -> T:
    """Returns the JSON of a file as a value of a type, as :func:`~tulu_eval.files.parsing.decode` does.

    Raises:
        DataError: As :func:`read_json`, or it is not of the type.
    """
    return decode(read_bytes(path, limit), kind, Place(path))


def json_rows(
    path: Path,
    fields: Sequence[str] = (),
    *,
    nan: bool = False,
    halves: bool = False,
    skip: Callable[[DataError], None] | None = None,
) -> Iterator[Row]:
    """Yields the objects of a file one at a time: JSON lines, a JSON list, or parquet, told apart by the first bytes.

    JSON may be gzip-compressed. Every object must have ``fields`` as texts; ``nan`` and ``halves`` are as for
    :func:`~tulu_eval.files.parsing.parse_json`. ``skip`` gets the error of each element that is not such an object, which is
    left out; ``None`` to raise it.

    Raises:
        DataError: If the file cannot be read or parsed, has an element that is not an object with these fields, or is empty.
    """
    empty = True
    with open_file(path) as file:
        start = file.peek(8)
        if start.startswith(b"PAR1"):
            found = _of_parquet(path, file)
        elif start.lstrip().startswith(b"["):
            found = _of_list(path, file)
        else:
            found = _of_lines(path, file)
        for place, value in found:
            empty = False
            try:
                row = _row(place, value, fields, nan, halves)
            except DataError as error:
                if skip is None:
                    raise
                skip(error)
                continue
            yield row
    if empty:
        raise DataError(path, "is empty; expected one JSON object per line, or a list of objects")


def _row(place: Place, value: Any, fields: Sequence[str], nan: bool, halves: bool) -> Row:
    if isinstance(value, bytes):
        value = parse_json(value, place, nan=nan, halves=halves)
    if not isinstance(value, dict):
        raise place.error(f"is {type(value).__name__}, not an object")
    row = Row(place, value)
    for field in fields:
        row.text(field)
    return row


def _of_lines(path: Path, file: io.BufferedReader[Any]) -> Iterator[tuple[Place, Any]]:
    blank = 0
    for number, line in enumerate(iter(functools.partial(file.readline, LINE + 1), b""), start=1):
        place = Place(path, number)
        if len(line) > LINE:
            raise place.error(f"is longer than {in_bytes(LINE)}, the limit for a line")
        if not line.isspace():
            yield place, line
            continue
        blank += 1
        if blank > BLANKS:
            raise place.error(f"is one of more than {BLANKS:,} blank lines")


def _of_list(path: Path, file: io.BufferedReader[Any]) -> Iterator[tuple[Place, Any]]:
    data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise DataError(path, f"is one JSON list of more than {in_bytes(LARGEST)}; write one object per line")
    try:
        pieces: Iterable[bytes] = map(bytes, _LIST.decode(data))
    except (msgspec.MsgspecError, RecursionError):  # not JSON, or NaN or a lone surrogate, for which parse_json has a message
        pieces = _pieces(data, path)
    for number, piece in enumerate(pieces, start=1):
        place = Place(path, number, "row")
        if len(piece) > LINE:
            raise place.error(f"is longer than {in_bytes(LINE)}, the limit for a row")
        yield place, piece


def _pieces(data: bytes, path: Path) -> Iterator[bytes]:
    """Yields the texts of a list's elements, found by Python's json; msgspec fails on the whole list if one is wrong."""
    try:
        text = data.decode("utf-8")
        place, end = text.index("[") + 1, ","
        while end == ",":
            start = _skip(text, place)
            place = _ELEMENT.raw_decode(text, start)[1]
            yield text[start:place].encode("utf-8")
            place = _skip(text, place)
            end, place = text[place : place + 1], place + 1
        whole = end == "]" and not text[place:].strip(_BLANK)
    except (ValueError, RecursionError):
        whole = False
    if not whole:
        exactly(data, Place(path), nan=True, halves=True)
        raise DataError(path, "is not a JSON list")


def _skip(text: str, place: int) -> int:
    """Returns the place of the next character that is not white space."""
    found = _GAP.match(text, place)
    return found.end() if found else place


def _of_parquet(path: Path, file: io.BufferedReader[Any]) -> Iterator[tuple[Place, Any]]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        table = pyarrow.parquet.ParquetFile(file)
        names = table.schema_arrow.names
        if len(set(names)) < len(names):
            raise DataError(path, "has two columns of the same name")
        for batch in table.iter_batches(BATCH):
            for value in batch.to_pylist():
                number += 1
                yield Place(path, number, "row"), value
    except (pyarrow.ArrowException, ValueError, OverflowError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(path, f"cannot be read as parquet after row {number}: {reason}") from error
