"""Whether the numbers of a card's tables fit each other: impossible shares, averages of no row, rows that are equal.

A column is read by its title. Its number of items is known if the title says it (``n = 200``) or names one of the benchmarks in
:data:`KNOWN`, or if the table has the columns ``Metric``, ``Value`` and ``n``; a number is doubted only if it is impossible at
every size that the benchmark is measured with. A number up to 1 may be a fraction.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from tulu_eval.model_card.card_file import CardSpan, TableRow
from tulu_eval.registry import Model
from tulu_eval.registry.arithmetic import FEWEST_TERMS, Term, equal_rows, is_share, sizes, spread_of
from tulu_eval.registry.card_tables import plain
from tulu_eval.registry.lint import values_of

_NUMBER = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,20})?")
_AVERAGE = re.compile(r"(?:overall |macro )?(?:average|avg\.?|mean)(?: score| acc\.?| accuracy)?", re.IGNORECASE)
_OTHER = re.compile(
    r"length|param|size|rank|year|date|step|epoch|tokens?\b|\bn\b|samples|mt.?bench|elo\b|perplexity", re.IGNORECASE
)
"""Titles of numeric columns that are no percentages."""

_POINTS = re.compile(r"mt.?bench|elo\b|perplexity", re.IGNORECASE)
"""Titles of scores on other scales, which an average may have taken in by any rule."""

_MODELS = re.compile(r"model|checkpoint|method|system|\A\W*\Z", re.IGNORECASE)
"""Title above the rows' names in a table in which each row is a model."""

_SAID = re.compile(r"\bn ?= ?([0-9]{1,9})\b")


class KnownColumn(NamedTuple):
    """A column whose number of items is known.

    Attributes:
        sizes: Numbers of items that the benchmark is measured with.
        parts: Parts of an item that count; see :func:`tulu_eval.registry.arithmetic.is_share`.
        group: Name that columns of one benchmark share; empty for the title.
        lower: Whether a lower number is better.
    """

    title: re.Pattern[str]
    sizes: tuple[int, ...]
    parts: int = 1
    group: str = ""
    lower: bool = False


KNOWN = (
    KnownColumn(re.compile(r"gsm.?8k", re.IGNORECASE), (200, 1319)),
    KnownColumn(re.compile(r"alpaca.?eval ?1\b", re.IGNORECASE), (805,), 2, "AlpacaEval"),
    KnownColumn(re.compile(r"alpaca.?eval", re.IGNORECASE), (), 1, "AlpacaEval"),
    KnownColumn(re.compile(r"if.?eval.{0,20}(?:loose|strict)", re.IGNORECASE), (541, 834)),
    KnownColumn(re.compile(r"xstest.{0,20}\bsafe\b.{0,9}ref", re.IGNORECASE), (250,), 1, "XSTest", lower=True),
    KnownColumn(re.compile(r"xstest.{0,20}\bunsafe\b", re.IGNORECASE), (200,), 1, "XSTest", lower=True),
    KnownColumn(re.compile(r"toxigen", re.IGNORECASE), (), 1, lower=True),
)
"""Sizes are those of the data, and of open-instruct's subset of GSM8K; IFEval has 541 prompts with 834 instructions."""

_UNKNOWN = KnownColumn(re.compile(r""), ())


@dataclasses.dataclass(frozen=True, slots=True)
class Doubt:
    """A place in a table whose numbers do not fit each other; fields as those of a finding of the card's check."""

    place: CardSpan
    check: str
    says: str
    instead: str
    advice: str


class _Cell(NamedTuple):
    place: CardSpan
    printed: Decimal


MOST_ROWS = 200
"""Rows of a table in which equal ones are looked for; every two of them are compared."""


def doubts(rows: Iterable[TableRow], subject: Callable[[TableRow], Model | None], counted: frozenset[str]) -> Iterator[Doubt]:
    """Yields what does not fit in a card's tables.

    Args:
        rows: All rows of the card.
        subject: Returns the model of a row; ``None`` if it is not in the registry.
        counted: Metrics that are shares of right items, as a column ``Metric`` names them.
    """
    for _, group in itertools.groupby(rows, key=lambda row: id(row.header)):
        table = list(group)
        numbers = [dict(_numbers(row)) for row in table]
        largest: dict[str, Decimal] = {}
        for title, cell in itertools.chain.from_iterable(cells.items() for cells in numbers):
            largest[title] = max(cell.printed, largest.get(title, Decimal(0)))
        names = [plain(row.cells[0].text) for row in table]
        for row, name, cells in zip(table, names, numbers, strict=True):
            yield from _shares(row, name, cells, counted)
            yield from _average(name, cells, largest)
        if len(table) <= MOST_ROWS and _MODELS.search(table[0].header[0]):
            yield from _equal(names, numbers, [subject(row) for row in table], largest)


def _numbers(row: TableRow) -> Iterator[tuple[str, _Cell]]:
    for title, cell in list(zip(row.header, row.cells, strict=False))[1:]:
        text = plain(cell.text).removesuffix("%").strip()
        if _NUMBER.fullmatch(text):
            yield plain(title), _Cell(cell, Decimal(text))


def _known(title: str) -> KnownColumn:
    found = next((one for one in KNOWN if one.title.search(title)), _UNKNOWN)
    said = _SAID.search(title)
    return found._replace(sizes=(int(said[1]),)) if said and int(said[1]) else found


def _shares(row: TableRow, name: str, cells: Mapping[str, _Cell], counted: frozenset[str]) -> Iterator[Doubt]:
    """Yields the numbers of a row that are no share of their items."""
    columns = [(title, cell, _known(title)) for title, cell in cells.items() if not _other(title)]
    texts = {title.lower(): cell.text for title, cell in zip(row.header, row.cells, strict=False)}
    n = next((cell.printed for title, cell in cells.items() if title == "n"), Decimal(0))
    if texts.get("metric") in counted and n >= 1:
        columns += [(title, cell, _UNKNOWN._replace(sizes=(int(n),))) for title, cell in cells.items() if title == "Value"]
    for title, cell, known in columns:
        readings = [cell.printed, *([cell.printed.scaleb(2)] if cell.printed <= 1 else [])]
        if not known.sizes or any(is_share(one, size, known.parts) for one in readings for size in known.sizes):
            continue
        below = sizes(readings[-1], known.sizes[0], known.parts)
        could = f"; it can be of {' or '.join(map(str, below))}" if below else ""
        tie = ", a tie counted one half" if known.parts == 2 else ""
        yield Doubt(
            cell.place,
            "impossible-share",
            f"The table prints {title} {cell.printed} for {name}.",
            f"No share of {' or '.join(map(str, known.sizes))} items rounds to it{tie}{could}.",
            "Say how many items the number is of.",
        )


def _average(name: str, cells: Mapping[str, _Cell], largest: Mapping[str, Decimal]) -> Iterator[Doubt]:
    """Yields a row's average if no rule gives it from the row; ``largest`` has the largest number of each column."""
    if any(_POINTS.search(title) for title in cells):
        return
    for title, cell in cells.items():
        if not _is_average(title):
            continue
        terms = [_term(column, cells[column], largest[column] <= 1 < largest[title]) for column in _percentages(cells, largest)]
        values = values_of(cell.printed, terms) if len(terms) >= FEWEST_TERMS else ()
        if values and not any(one.fits for one in values):
            tried = "; ".join(f"{one.words}: {one.value:.2f}" for one in values)
            yield Doubt(
                cell.place,
                "average-of-row",
                f"The table prints {title} {cell.printed} for {name}.",
                f"No rule that was tried gives it from the numbers of its row ({tried}).",
                "Say which columns it is the mean of, and how.",
            )


def _term(column: str, cell: _Cell, fraction: bool) -> Term:
    known = _known(column)
    return Term(column, cell.printed.scaleb(2) if fraction else cell.printed, known.group or column, known.lower)


def _percentages(cells: Mapping[str, _Cell], largest: Mapping[str, Decimal]) -> list[str]:
    """Returns the columns of a row that can be percentages: by their titles, and because no row has more than 100."""
    return [title for title in cells if not _other(title) and not _is_average(title) and largest[title] <= 100]


def _equal(
    names: Sequence[str],
    numbers: Sequence[Mapping[str, _Cell]],
    models: Sequence[Model | None],
    largest: Mapping[str, Decimal],
) -> Iterator[Doubt]:
    """Yields rows that are equal in columns in which chance does not explain it; of known models only one and its start."""
    table = {
        str(place): {title: row[title].printed.scaleb(2 if largest[title] <= 1 else 0) for title in _percentages(row, largest)}
        for place, row in enumerate(numbers)
    }
    pairs = [
        (str(one), str(other))
        for one, other in itertools.combinations(range(len(numbers)), 2)
        if _neighbours(models[one], models[other])
    ]
    spreads = {}
    for title in {title for row in table.values() for title in row}:
        known = _known(title)
        values = [row[title] for row in table.values() if title in row]
        spreads[title] = spread_of(values, min(known.sizes, default=None), known.parts)
    for found in equal_rows(table, pairs, spreads):
        cells = [numbers[int(found.second)][title] for title in found.columns]
        shown = " and ".join(f"{title} {cell.printed}" for title, cell in zip(found.columns, cells, strict=True))
        yield Doubt(
            cells[0].place,
            "equal-rows",
            f"{names[int(found.second)]} has the numbers of {names[int(found.first)]}: {shown}.",
            f"By chance {found.chance:.2g} such pairs are expected in this table.",
            "Look whether one was copied from the other.",
        )


def _neighbours(one: Model | None, other: Model | None) -> bool:
    return one is None or other is None or one.base == other.hub_id or other.base == one.hub_id


def _is_average(title: str) -> bool:
    return bool(_AVERAGE.fullmatch(title.strip()))


def _other(title: str) -> bool:
    return bool(_OTHER.search(_SAID.sub("", title)))
