"""Plain tables that fit the terminal, and plain data for ``--json``."""

from __future__ import annotations

import dataclasses
import re
import shutil
import textwrap
from collections.abc import Collection, Sequence
from typing import Any

from tulu_eval.errors import printable

UNBOUNDED = 10_000
"""Width without a terminal, so that nothing is wrapped in a file or a pipe."""

SHOWN = 20
"""Characters of a long value, e.g. a hash or an answer, that a table shows."""

_GAP = 2
"""Characters that tabulate's plain format puts between columns, and beside a title (``MIN_PADDING``)."""


def terminal_width() -> int:
    """Returns the terminal's columns; :data:`UNBOUNDED` if the output goes elsewhere and ``COLUMNS`` is not set."""
    return shutil.get_terminal_size((UNBOUNDED, 24)).columns


def grid(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Collection[int] = (),
    keep: Collection[int] = (0,),
    width: int | None = None,
) -> str:
    """Returns a plain table whose widest columns are wrapped until it fits; stacked records where even that is too wide.

    ``right`` has the positions of right-aligned columns, ``keep`` those of columns that are never wrapped, e.g. names that a
    user copies; ``width`` is in characters, ``None`` for the terminal's.
    """
    from tabulate import tabulate

    align = ["right" if place in right else "left" for place in range(len(header))]
    header, rows = [printable(title) for title in header], [[printable(cell) for cell in row] for row in rows]
    room = terminal_width() if width is None else width
    folded: list[Sequence[str]] = [header, *rows]
    if rows:
        limits = _limits(header, rows, keep, room)
        folded = [list(map(_folded, row, limits)) for row in folded]
    text = tabulate(folded[1:], headers=folded[0], disable_numparse=True, colalign=align if rows else None)
    lines = [line.rstrip() for line in text.splitlines()]
    if rows and max(map(len, lines)) > room:
        return _stacked(header, rows, room)
    return "\n".join(lines)


def _stacked(header: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> str:
    """Returns rows one below the other: the first cell, and under it a line per cell that has a text, after its title."""
    records = []
    for first, *others in rows:
        pairs = [(title, cell) for title, cell in zip(header[1:], others, strict=True) if cell]
        lines = [wrapped(f"  {title}: {cell}" if title else f"  {cell}", "    ", width) for title, cell in pairs]
        records.append("\n".join([wrapped(first, "  ", width), *lines]))
    return "\n\n".join(records)


def fitted(text: str, width: int | None = None) -> str:
    """Returns a text whose longer lines are wrapped between words, those after the first under the line's own indentation.

    A word that is longer, such as a path or a signature, stays whole.
    """
    room = terminal_width() if width is None else width
    found = []
    for line in text.split("\n"):
        begin = line[: len(line) - len(line.lstrip())][: room // 2]
        found.append(wrapped(line.strip(), f"{begin}  ", room, begin) if len(line) > room else line)
    return "\n".join(found)


def _folded(text: str, limit: int) -> str:
    """Returns a cell whose lines have a width, unless a word is longer; names with hyphens stay whole."""
    return "\n".join(textwrap.wrap(text, limit, break_long_words=False, break_on_hyphens=False))


def _limits(header: Sequence[str], rows: Sequence[Sequence[str]], keep: Collection[int], width: int) -> list[int]:
    """Returns the width of each column: its natural width, after narrowing the widest columns until the sum fits.

    No word is cut: a column keeps the width of its longest word, even if the table is then too wide.
    """
    columns = [(title, max((len(row[place]) for row in rows), default=0)) for place, title in enumerate(header)]
    limits = [max(len(title), cells) for title, cells in columns]
    least = [max(len(word) for row in (header, *rows) for word in (row[place].split() or [""])) for place in range(len(header))]

    def taken(place: int) -> int:
        title, cells = columns[place]
        return max(min(len(title), limits[place]) + _GAP, min(cells, limits[place]))

    while sum(map(taken, range(len(limits)))) + _GAP * (len(limits) - 1) > width:
        widest = max((p for p in range(len(limits)) if p not in keep and limits[p] > least[p]), key=taken, default=None)
        if widest is None:
            break
        limits[widest] -= 1
    return [max(limit, 1) for limit in limits]


def wrapped(text: str, indent: str = "", width: int | None = None, begin: str = "") -> str:
    """Returns a paragraph wrapped at the terminal's width, without cutting words.

    The first line starts with ``begin``, the others with ``indent``.
    """
    return textwrap.fill(
        text,
        width=terminal_width() if width is None else width,
        initial_indent=begin,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


_COPIED = re.compile(r"(?<=\w): tulu-eval [^;()]+|pip install \S+|(?<![^\s(])'[^']+'(?![^\s.,;:?)])")
"""What somebody copies out of a message: the next step, a command after a colon, anything in quotes."""


def message(text: str, width: int) -> str:
    """Returns a message wrapped between words; a command or a quoted text in it stays on one line, to be copied."""
    if len(text) <= width or "  " in text.strip():  # a row of a table has columns
        return text
    whole = _COPIED.sub(lambda found: found[0].replace(" ", "\0"), text)
    return wrapped(whole, "  ", width).replace("\0", " ")


def cut(value: str, most: int = SHOWN) -> str:
    """Returns a value, or the first :data:`SHOWN` characters of one that has more than ``most``."""
    return value if len(value) <= most else f"{value[:SHOWN]}..."


def data(record: Any) -> dict[str, Any]:
    """Returns a record as plain data for JSON."""
    return dataclasses.asdict(record)


def duration(seconds: float) -> str:
    """Returns a duration in the unit that gives a number from about 1 to 120."""
    for limit, unit, size in ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} days"
