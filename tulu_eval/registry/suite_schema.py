"""Reads one TOML file of the registry into records; an error is one line.

The records of :mod:`~tulu_eval.registry.entries`, :mod:`~tulu_eval.registry.published` and
:mod:`~tulu_eval.registry.card_tables` are the schema: a key is a field and has the field's type, and a field without a default
is required.
"""

from __future__ import annotations

import dataclasses
import re
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, NoReturn, TypeVar, get_args, get_origin, get_type_hints

from tulu_eval import files
from tulu_eval.errors import DataError, suggest
from tulu_eval.registry.card_tables import CardRow, FamilyRow
from tulu_eval.registry.entries import Defect, Metric, Model, Package, Source
from tulu_eval.registry.published import CellEntry, CellRef, Contradiction, TableEntry

LIMIT = 10_000_000
"""Largest size of a registry file in bytes; the suite's own largest has 60 kB."""

KINDS: dict[str, type[Any]] = {
    "source": Source,
    "metric": Metric,
    "model": Model,
    "cell": CellEntry,
    "table": TableEntry,
    "contradiction": Contradiction,
    "card_row": CardRow,
    "family_row": FamilyRow,
}
"""Record type of a table, by the name of its array of tables."""

_RECORDS = (*KINDS.values(), CellRef, Defect, Package)
_HINTS = {cls: get_type_hints(cls) for cls in _RECORDS}
_REQUIRED = {
    cls: tuple(field.name for field in dataclasses.fields(cls) if field.default is dataclasses.MISSING) for cls in _RECORDS
}
_NAMED_BY = ("hub_id", "key", "id", "label", "printed_split", "model", "source")
_TYPE_WORDS: dict[type, str] = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One table of a TOML file with its place, which messages name.

    Attributes:
        kind: Name of the array of tables.
        index: Zero-based position in that array.
        text: Text of the whole file.
    """

    path: Path
    kind: str
    index: int
    data: dict[str, Any]
    text: str

    @property
    def line(self) -> int | None:
        """One-based line of the table's header; ``None`` if the file does not write the header as ``[[kind]]``."""
        headers = [
            number
            for number, line in enumerate(self.text.splitlines(), start=1)
            if re.match(rf"\s*\[\[\s*{self.kind}\s*\]\]", line)
        ]
        return headers[self.index] if self.index < len(headers) else None

    def fail(self, message: str) -> NoReturn:
        """Raises DataError, always, with one line that names this table."""
        name = next((self.data[key] for key in _NAMED_BY if isinstance(self.data.get(key), str)), str(self.index + 1))
        raise DataError(self.path, f"[[{self.kind}]] {name}: {message}", self.line)

    def refer(self, known: Mapping[str, object], key: str, field: str) -> None:
        """Raises DataError if a reference is not in ``known``."""
        if key not in known:
            self.fail(f"{field!r} names {key!r}, which is not in the registry.{suggest(key, known)}")


class Placed(NamedTuple, Generic[T]):
    """A record together with the table it was read from."""

    record: T
    entry: Entry


def read_file(path: Path) -> Iterator[Placed[Any]]:
    """Yields every table of a registry file as a record, in the file's order of kinds.

    Raises:
        DataError: If the file is missing or not TOML, or a table does not match the schema of its kind.
    """
    text = files.read_text(path, LIMIT)
    data = files.parse_toml(text, path)
    for kind, tables in data.items():
        if kind not in KINDS:
            raise DataError(path, f"unknown table [[{kind}]].{suggest(kind, KINDS)}")
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise DataError(path, f"{kind} must be written as [[{kind}]]")
        for index, table in enumerate(tables):
            entry = Entry(path, kind, index, table, text)
            yield Placed(_record(KINDS[kind], table, entry, ""), entry)


def _record(cls: type[Any], table: dict[str, Any], entry: Entry, where: str) -> Any:
    hints = _HINTS[cls]
    for key in table:
        if key not in hints:
            entry.fail(f"unknown key {where + key!r}.{suggest(key, hints)}")
    for key in _REQUIRED[cls]:
        if key not in table:
            entry.fail(f"{where + key!r} is missing")
    return cls(**{key: _value(hints[key], value, entry, where + key) for key, value in table.items()})


def _value(kind: Any, value: Any, entry: Entry, where: str) -> Any:
    """Returns a TOML value as the field's type; a list becomes a tuple, a table becomes a record."""
    origin = get_origin(kind)
    if origin is Literal:
        if value not in get_args(kind):
            entry.fail(f"{where!r} is {value!r}; allowed: {', '.join(map(str, get_args(kind)))}")
        return value
    if origin is tuple:
        if not isinstance(value, list):
            entry.fail(f"{where!r} must be a list")
        return tuple(_value(get_args(kind)[0], item, entry, f"{where}[{place}]") for place, item in enumerate(value))
    options = [option for option in get_args(kind) if option is not type(None)] if origin is types.UnionType else [kind]
    if options[0] in _RECORDS:
        if not isinstance(value, dict):
            entry.fail(f"{where!r} must be a table")
        return _record(options[0], value, entry, f"{where}.")
    return _scalar(options, value, entry, where)


def _scalar(options: list[type], value: Any, entry: Entry, where: str) -> Any:
    if type(value) in options:
        if isinstance(value, str) and (value != value.strip() or (not value and where in _REQUIRED[KINDS[entry.kind]])):
            entry.fail(f"{where!r} is empty or has space around it")
        return value
    if float in options and type(value) is int:
        return float(value)
    entry.fail(f"{where!r} must be {' or '.join(_TYPE_WORDS[option] for option in options)}, not {value!r}")
