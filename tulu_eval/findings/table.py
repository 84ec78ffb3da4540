"""The card's table with measured numbers beside the published ones: for each cell one run's row, a verdict, and groups.

The table has every row of the card, measured or not, and then the other measured models.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from tulu_eval.errors import DataError, UserError
from tulu_eval.findings.owners import owners_of
from tulu_eval.findings.published_cells import published_of, released_model, remembered_model
from tulu_eval.findings.table_columns import Column, columns_of, row_of
from tulu_eval.findings.verify import Comparison, against, verify
from tulu_eval.judging.numbers import is_win_rate
from tulu_eval.records import Result
from tulu_eval.registry import PublishedCell, Suite, plain
from tulu_eval.runs.judge import flags_of
from tulu_eval.runs.reading import StoredRun, find_runs
from tulu_eval.stats import count_groups, wilson

FULL = "full"
"""The protocol that has every item of the benchmark."""


@dataclasses.dataclass(frozen=True, slots=True)
class Measured:
    """The measured number of a cell.

    Attributes:
        row: The row with the most items of the published protocol; the newest run's if several have as many.
        runs: Number of runs that have a row for the cell.
        full: The row with the most items of all items of the benchmark, from any of these runs.
        source: Origin of the number if no run here gave it, else empty.
        flags: Reasons to doubt the number, one line each.
        lc_range: Smallest and largest length-controlled win rate over the constants C behind published numbers; ``None`` for
            another metric, or if it could not be computed again.
    """

    row: Result
    run: StoredRun
    runs: int
    full: Result | None
    source: str = ""
    flags: tuple[str, ...] = ()
    lc_range: tuple[float, float] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class TableCell:
    """A published number with the measured one.

    Attributes:
        cell: The published number; ``None`` if there is none.
        interval: Its 95 % Wilson interval in percent; ``None`` if it is not a count.
        reason: Why there is no comparison although something was measured; else empty.
        group: Letters of the published number's groups.
    """

    cell: PublishedCell | None
    interval: tuple[float, float] | None
    measured: Measured | None
    comparison: Comparison | None
    reason: str
    group: str = ""
    measured_group: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class TableLine:
    """A row of the table.

    Attributes:
        label: Label on the card without bold marks; for a model that is not on the card, its name.
        size: As on the card, else as in the registry, else counted in the weights.
        alignment: As on the card, else the model's stage.
        model: Hub id, or the name under which a model outside the registry is filed.
        entries: One cell per column.
    """

    label: str
    size: str
    alignment: str
    model: str
    on_card: bool
    entries: tuple[TableCell, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class CollectedTable:
    """The card's table.

    Attributes:
        lines: The card's rows in the card's order, then other measured models by name.
        problems: Run folders that cannot be used, with the reason, one line each.
        elsewhere: Number of runs without a number in the table, by benchmark.
        apart: A line for each row of the card that is empty because its model was measured with several sets of weights.
    """

    columns: tuple[Column, ...]
    lines: tuple[TableLine, ...]
    problems: tuple[str, ...]
    elsewhere: dict[str, int]
    apart: tuple[str, ...] = ()


def collect(suite: Suite, results: Path, each: Callable[[Sequence[Path]], Iterable[Path]] = iter) -> CollectedTable:
    """Returns the card's table with the runs under a folder; ``each`` as for :func:`find_runs`."""
    return arrange(suite, *find_runs(results, each))


Columns = Callable[[Suite, Sequence[StoredRun]], Iterable[Column]]


def arrange(
    suite: Suite, runs: Sequence[StoredRun], problems: Sequence[str], columns_for: Columns = columns_of
) -> CollectedTable:
    """Returns the card's table with these runs and the columns for them; adds unfinished runs to the problems."""
    problems = [*problems, *(f"{run.folder}: {run.tally.unfinished}" for run in runs if run.tally.unfinished)]
    problems += filter(None, (_odd_note(run, suite) for run in runs))
    runs = [run for run in runs if run.tally.finished]
    columns = tuple(columns_for(suite, runs))
    has_row = [any(row_of(run, column) for column in columns) for run in runs]
    elsewhere = Counter(run.benchmark for run, has in zip(runs, has_row, strict=True) if not has)
    owners = owners_of([run for run, has in zip(runs, has_row, strict=True) if has], suite)
    lines = [
        TableLine(plain(row.label), row.size, row.alignment, row.model, True, tuple(
            entry(suite, column, owners.get(row.model, []), _card_cell(suite, column, row.model, row.source))
            for column in columns
        ))
        for row in suite.card_rows
    ]  # fmt: skip
    on_card = {row.model for row in suite.card_rows}
    lines += [_other(suite, columns, owner, owners[owner]) for owner in sorted(owners) if owner not in on_card]
    return CollectedTable(
        columns, _grouped(lines, len(columns)), tuple(problems), dict(elsewhere), tuple(_apart(on_card, owners))
    )


def _apart(models: Iterable[str], owners: Iterable[str]) -> Iterator[str]:
    """Yields a line for each model whose runs have several commits with different weights, so that none is the card's."""
    for model in sorted(models):
        if several := [owner for owner in owners if owner.startswith(f"{model}@")]:
            yield f"{model} was measured at {len(several)} commits with other weights; each has a row of its own"


def _odd_note(run: StoredRun, suite: Suite) -> str:
    """Returns why a run's note of :func:`remembered_model` cannot be used; empty if it can, or there is none."""
    try:
        remembered_model(run.folder, suite)
    except DataError as error:
        return str(error)
    return ""


def _published_cell(run: StoredRun, suite: Suite, column: Column) -> PublishedCell | None:
    """Returns the published number for a run of a model that is not on the card; the first if there are several."""
    try:
        cells = published_of(run, suite).cells
    except UserError:  # nothing was published of it
        return None
    return next((cell for cell in cells if cell.metric_key == column.metric_key), None) if not column.judge else None


def _card_cell(suite: Suite, column: Column, model: str, source: str) -> PublishedCell | None:
    cells = suite.cells(suite.find(model), column.benchmark)
    here = (cell for cell in cells if cell.metric_key == column.metric_key and cell.source.key == source)
    return next(here, None) if not column.judge else None


def _other(suite: Suite, columns: Sequence[Column], owner: str, runs: list[StoredRun]) -> TableLine:
    model = released_model(runs[0], suite)
    parameters = runs[0].about.model.parameters
    counted = f"{parameters / 1e9:.1f}B" if parameters >= 1e9 else f"{parameters / 1e6:.0f}M"
    size = model.size if model else counted if parameters else "-"
    label = model.name if model is not None and model.hub_id == owner else owner
    entries = tuple(_entry_beside(suite, column, runs) for column in columns)
    return TableLine(label, size, model.stage if model else "-", owner, False, entries)


def _entry_beside(suite: Suite, column: Column, runs: Sequence[StoredRun]) -> TableCell:
    """Returns the cell of a model that is not on the card, with the model's own published number if it has one."""
    measured = _measured(column, runs)
    return entry(suite, column, runs, _published_cell(measured.run, suite, column) if measured else None)


def entry(suite: Suite, column: Column, runs: Sequence[StoredRun], cell: PublishedCell | None) -> TableCell:
    """Returns the cell of a published number and of runs of its model, still without groups."""
    interval = None
    if cell is not None and cell.n is not None and suite.metrics[cell.metric_key].counted:
        low, high = wilson(round(cell.value * cell.n / 100), cell.n)
        interval = (100 * low, 100 * high)
    measured = _measured(column, runs)
    comparison, reason = _verdict(measured, cell, suite) if measured and cell else (None, "")
    return TableCell(cell, interval, measured, comparison, reason)


def _verdict(measured: Measured, cell: PublishedCell, suite: Suite) -> tuple[Comparison | None, str]:
    """Returns the comparison that ``verify`` makes for a cell, or the reason why there is none."""
    row = measured.row
    if row.partial:
        return None, f"partial ({row.n} of {row.n_protocol})"
    if row.interval == "none":
        return None, "no interval"
    if measured.run.of_files:  # there is no run to verify
        return against(measured.run, row, cell, suite, same_weights=True), ""
    try:
        found = verify(measured.run, suite)
    except UserError as error:
        return None, str(error)
    for one in found.comparisons:
        if one.main and one.cell.place == cell.place:
            return one, ""
    reasons = [one.reason for one in found.untested if one.cell.place == cell.place]
    return None, next(iter([*reasons, *found.notes]), "not compared")


def _measured(column: Column, runs: Sequence[StoredRun]) -> Measured | None:
    having = [(row, run) for run in runs if (row := row_of(run, column)) is not None]
    if not having:
        return None
    row, run = max(having, key=lambda one: (one[0].n, one[1].ended))
    wanted = (FULL, row.scorer, row.metric)
    all_items = [(one, its) for _, its in having for one in its.results if (one.protocol, one.scorer, one.metric) == wanted]
    full, _ = max(all_items, key=lambda one: (one[0].n, one[1].ended), default=(None, run))
    flags = [*filter(None, [run.unhashed]), *(flags_of(run.folder) if is_win_rate(row.metric) else [])]
    return Measured(row, run, len(having), full, run.source, tuple(flags), run.lc_ranges.get(row.signature))


def _grouped(lines: Sequence[TableLine], columns: int) -> tuple[TableLine, ...]:
    """Returns the lines with letters for groups of published counts, and of measured counts."""
    entries = [list(line.entries) for line in lines]
    for place in range(columns):
        published = _letters([_published_count(row[place]) for row in entries])
        measured = _letters([_measured_count(row[place]) for row in entries])
        for row, group, measured_group in zip(entries, published, measured, strict=True):
            row[place] = dataclasses.replace(row[place], group=group, measured_group=measured_group)
    return tuple(dataclasses.replace(line, entries=tuple(row)) for line, row in zip(lines, entries, strict=True))


def _letters(counts: Sequence[tuple[int, int] | None]) -> list[str]:
    """Returns the group letters of each count; empty for ``None``, and if there is only one count."""
    present = [count for count in counts if count is not None]
    letters = iter(count_groups(present) if len(present) > 1 else [""] * len(present))
    return [next(letters) if count is not None else "" for count in counts]


def _published_count(entry: TableCell) -> tuple[int, int] | None:
    if entry.cell is None or entry.cell.n is None or entry.interval is None:
        return None
    return round(entry.cell.value * entry.cell.n / 100), entry.cell.n


def _measured_count(entry: TableCell) -> tuple[int, int] | None:
    row = entry.measured.row if entry.measured else None
    if row is None or not row.whole or not row.interval.startswith("wilson"):
        return None
    return round(row.value * row.n / 100), row.n
