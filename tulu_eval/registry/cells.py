"""Turns numbers as written in TOML into published cells: splits tables, computes values, refuses impossible numbers."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal

from tulu_eval.registry.arithmetic import is_share
from tulu_eval.registry.card_tables import CardRow, plain
from tulu_eval.registry.entries import Metric, Model, Source
from tulu_eval.registry.published import CellEntry, PublishedCell, TableEntry
from tulu_eval.registry.suite_schema import Entry, Placed

CARD_COLUMNS = ("GSM8K_8shot_CoT", "AlpacaEval2_LC")
"""Metrics of the two number columns of the card's results table."""

_PRINTED = re.compile(r"-?[0-9]+(\.[0-9]+)?")


def from_table(table: Placed[TableEntry]) -> Iterator[Placed[CellEntry]]:
    """Yields one cell per number of a table.

    Raises:
        DataError: If a row is too short or too long, or ``fractions`` names something that is not a column.
    """
    record, entry = table
    for name in record.fractions:
        if name not in record.columns:
            entry.fail(f"'fractions' names {name!r}, which is not a column")
    for row in record.rows:
        model, *numbers = row or ("",)
        if len(numbers) != len(record.columns):
            entry.fail(f"the row of {model!r} has {len(numbers)} numbers for {len(record.columns)} columns")
        for column, printed in zip(record.columns, numbers, strict=True):
            if printed:
                cell = CellEntry(model, column, printed, record.source, fraction=column in record.fractions, note=record.note)
                yield Placed(cell, entry)


def from_card_row(row: Placed[CardRow]) -> Iterator[Placed[CellEntry]]:
    """Yields the two numbers of a row of the card's results table."""
    record, entry = row
    label = plain(record.label)
    for metric, printed in zip(CARD_COLUMNS, (record.gsm8k, record.alpaca_eval), strict=True):
        yield Placed(
            CellEntry(record.model, metric, plain(printed), record.source, label=label, identity=record.identity), entry
        )


def publish(
    cells: Sequence[Placed[CellEntry]],
    models: Mapping[str, Model],
    metrics: Mapping[str, Metric],
    sources: Mapping[str, Source],
) -> tuple[PublishedCell, ...]:
    """Returns the cells with their metrics and sources; each has its source's standing until :func:`contradict` changes it.

    Raises:
        DataError: If a cell names an unknown model, metric or source, a number is given twice, or a number is impossible.
    """
    published: dict[tuple[str, str, str], PublishedCell] = {}
    for cell, entry in cells:
        entry.refer(models, cell.model, "model")
        entry.refer(metrics, cell.metric, "metric")
        entry.refer(sources, cell.source, "source")
        place = (cell.model, cell.metric, cell.source)
        if place in published:
            entry.fail(f"{cell.metric} of {cell.model} in source {cell.source!r} appears twice")
        published[place] = _resolve(cell, metrics[cell.metric], sources[cell.source], entry)
    return tuple(published.values())


def percent(cell: CellEntry) -> Decimal:
    """Returns a printed number in the metric's unit, with the decimals that the source prints."""
    printed = Decimal(cell.printed)
    return printed.scaleb(2) if cell.fraction else printed


def _resolve(cell: CellEntry, metric: Metric, source: Source, entry: Entry) -> PublishedCell:
    what = f"{cell.metric} {cell.printed!r} of {cell.model}"
    if not _PRINTED.fullmatch(cell.printed):
        entry.fail(f"{what} is not a number")
    value = percent(cell)
    if metric.unit == "percent" and not 0 <= value <= 100:
        entry.fail(f"{what} is not between 0 and {'1' if cell.fraction else '100'}")
    n = cell.n if cell.n is not None else metric.n
    if n is not None and n < 1:
        entry.fail(f"n of {what} is {n}")
    if cell.se is not None and not 0 < cell.se < math.inf:
        entry.fail(f"the standard error of {what} is {cell.se}")
    if metric.counted and n is not None:
        _check_count(value, n, what, entry)
    return PublishedCell(
        model=cell.model,
        metric_key=metric.key,
        benchmark=metric.benchmark,
        protocol=metric.protocol,
        metric=metric.metric,
        value=float(value),
        unit=metric.unit,
        n=n,
        se=cell.se,
        printed=cell.printed,
        source=source,
        standing=source.standing,
        label=cell.label,
        identity=cell.identity,
        note=cell.note or source.note,
        contradictions=(),
    )


def _check_count(value: Decimal, n: int, what: str, entry: Entry) -> None:
    """Raises DataError if no k of n rounds to the percentage at its decimals."""
    if is_share(value, n):
        return
    below = math.floor(value * n / 100)
    decimals = max(1, -int(value.as_tuple().exponent))
    nearest = " and ".join(f"{100 * k / n:.{decimals}f} ({k} of {n})" for k in (below, below + 1) if 0 <= k <= n)
    entry.fail(f"{what} cannot be a share of {n} items; the nearest that can are {nearest}")


def contradict(cell: PublishedCell, ids: tuple[str, ...]) -> PublishedCell:
    """Returns the cell with the standing ``contradicted`` and the ids; the cell unchanged if there are no ids."""
    return dataclasses.replace(cell, standing="contradicted", contradictions=ids) if ids else cell
