"""The card's table with what was measured beside it: run folders found, one row chosen for each cell, verdicts and groups.

Every row of the card is there, measured or not. Other models that were measured follow. A column holds numbers of one metric
and one judge: a raw win rate never stands in the length-controlled column, nor one judge's number in another's.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from tulu_eval.errors import DataError, UserError
from tulu_eval.findings.owners import owners_of
from tulu_eval.findings.published_cells import published_of, released_model, remembered_model
from tulu_eval.findings.verify import Comparison, against, verify
from tulu_eval.judging.numbers import CALIBRATED, is_win_rate, other_scale
from tulu_eval.records import Result
from tulu_eval.registry import PublishedCell, Suite, plain
from tulu_eval.runs.judge import flags_of
from tulu_eval.runs.reading import StoredRun, find_runs
from tulu_eval.stats import count_groups, wilson

TITLES = {"GSM8K_8shot_CoT": "GSM8K", "AlpacaEval2_LC": "AlpacaEval 2 LC"}
"""Short titles of the two number columns of the card, by metric of the registry."""

RAW = "AlpacaEval2_WR"
"""Metric of the registry that a raw win rate is, and that a calibrated one estimates."""

PROTOCOL = "published"
"""The protocol whose rows stand beside the card's numbers."""

FULL = "full"
"""The protocol that has every item of the benchmark."""


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """A column pair of the table: published and measured.

    Attributes:
        metric_key: Metric of the registry.
        title: For display.
        benchmark: Whose runs it shows.
        metric: Metric of a result that it takes.
        protocol: Protocol of the rows that it takes.
        judge: Whose numbers it takes; empty for the published judge, or where nobody judges.
    """

    metric_key: str
    title: str
    benchmark: str
    metric: str
    protocol: str = PROTOCOL
    judge: str = ""

    @property
    def calibrated(self) -> bool:
        """Whether its numbers are estimates of what the published judge would have said."""
        return self.metric.endswith(CALIBRATED)


@dataclasses.dataclass(frozen=True, slots=True)
class Measured:
    """What was measured for one cell of the table.

    Attributes:
        row: Of the run with most items of the published protocol, the newest of equals.
        run: That run.
        runs: Runs that have such a row.
        source: Where it is from, if not from a run here; empty otherwise.
        flags: What makes the number doubtful, one line each.
        lc_range: Smallest and largest length-controlled rate over the constants C that published numbers have; None where the
            row is none, or it could not be computed again.
        full: The row over every item of the benchmark with most items there is, of any of these runs.
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
    """One cell pair of the table.

    Attributes:
        cell: What the card prints; None beside the card.
        interval: Its 95 % interval in percent (Wilson), where it is a count.
        measured: What was measured; None where nothing was.
        comparison: The verdict, where there is one.
        reason: Why there is none though something was measured; empty otherwise.
        group: Letters of the groups of published numbers.
        measured_group: Letters of the groups of measured numbers.
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
        label: As the card prints it, bold marks left out; the model's name beside the card.
        size: As the card prints it, or as the registry has it, or counted.
        alignment: As the card prints it; the stage beside the card.
        model: Hub id, or the name that a model outside the registry is filed under.
        on_card: Whether it is a row of the card.
        entries: One a column.
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
        columns: What it shows.
        lines: The card's rows in its order, then other measured models by name.
        problems: Run folders that cannot be used, one line each.
        elsewhere: Number of runs by benchmark that have no column or no row of the published protocol.
        apart: A line for each row of the card that stays empty because its model was measured with several sets of weights.
    """

    columns: tuple[Column, ...]
    lines: tuple[TableLine, ...]
    problems: tuple[str, ...]
    elsewhere: dict[str, int]
    apart: tuple[str, ...] = ()


def collect(suite: Suite, results: Path, each: Callable[[Sequence[Path]], Iterable[Path]] = iter) -> CollectedTable:
    """Returns the card's table with the runs under ``results`` beside it; ``each`` as :func:`find_runs` takes it."""
    return arrange(suite, *find_runs(results, each))


def arrange(suite: Suite, runs: Sequence[StoredRun], problems: Sequence[str]) -> CollectedTable:
    """Returns the card's table with these runs beside it; ``problems`` are passed on, and unfinished runs are among them."""
    problems = [*problems, *(f"{run.folder}: {run.tally.unfinished}" for run in runs if run.tally.unfinished)]
    problems += filter(None, (_odd_note(run, suite) for run in runs))
    runs = [run for run in runs if run.tally.finished]
    columns = tuple(_columns(suite, runs))
    has_row = [any(_row(run, column) for column in columns) for run in runs]
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
    """Yields a line for each model whose runs are of several commits with other weights, so that none is the card's."""
    for model in sorted(models):
        if several := [owner for owner in owners if owner.startswith(f"{model}@")]:
            yield f"{model} was measured at {len(several)} commits with other weights; each has a row of its own"


def _columns(suite: Suite, runs: Sequence[StoredRun]) -> Iterator[Column]:
    for key, title in TITLES.items():
        metric = suite.metrics[key]
        own = Column(key, title, metric.benchmark, metric.metric)
        yield own
        if is_win_rate(metric.metric):
            yield from (_of_judge(own, judge) for judge in _judges(own, runs) if judge)
            yield from _raw_columns(own, runs)
    for metric in suite.metrics.values():
        own = Column(metric.key, metric.title, metric.benchmark, metric.metric, metric.protocol or "")
        published = any(cell.metric_key == metric.key for cell in suite.cells(benchmark=metric.benchmark))
        if own.protocol not in ("", PROTOCOL) and published and any(_rows(run, own) for run in runs):
            yield own


def _raw_columns(own: Column, runs: Sequence[StoredRun]) -> Iterator[Column]:
    """Yields a column of raw win rates for each judge that gave a run nothing else, and one for each calibrated judge."""
    raw = Column(RAW, "AlpacaEval 2 win rate", own.benchmark, "win_rate")
    only_raw = {judge for run in runs for judge in {*_judges(raw, [run])} - {*_judges(own, [run])}}
    yield from (_of_judge(raw, judge) for judge in sorted(only_raw))
    mapped = dataclasses.replace(raw, metric=raw.metric + CALIBRATED)
    for judge in _judges(mapped, runs):
        yield dataclasses.replace(mapped, title=f"{mapped.title}, judge {judge} calibrated,", judge=judge)


def _of_judge(column: Column, judge: str) -> Column:
    return dataclasses.replace(column, title=f"{column.title}, judge {judge},", judge=judge) if judge else column


def _judges(column: Column, runs: Sequence[StoredRun]) -> list[str]:
    """Returns the judges that gave numbers of a column's metric, the published judge by an empty name."""
    return sorted({other_scale(row) for run in runs for row in _rows(run, column)})


def _rows(run: StoredRun, column: Column) -> list[Result]:
    """Returns the rows of a run that have a column's metric, whoever judged."""
    if run.benchmark != column.benchmark:
        return []
    return [row for row in run.results if row.protocol == column.protocol and row.metric == column.metric]


def _row(run: StoredRun, column: Column) -> Result | None:
    return next((row for row in _rows(run, column) if other_scale(row) == column.judge), None)


def _odd_note(run: StoredRun, suite: Suite) -> str:
    """Returns why the note whose numbers a run is compared with cannot be used; empty where it can, or there is none."""
    try:
        remembered_model(run.folder, suite)
    except DataError as error:
        return str(error)
    return ""


def _published_cell(run: StoredRun, suite: Suite, column: Column) -> PublishedCell | None:
    """Returns the published number that a run beside the card is compared with in a column; the first of several."""
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
    parameters = runs[0].manifest["model"]["parameters"]
    counted = f"{parameters / 1e9:.1f}B" if parameters >= 1e9 else f"{parameters / 1e6:.0f}M"
    size = model.size if model else counted if parameters else "-"
    label = model.name if model is not None and model.hub_id == owner else owner
    entries = tuple(_entry_beside(suite, column, runs) for column in columns)
    return TableLine(label, size, model.stage if model else "-", owner, False, entries)


def _entry_beside(suite: Suite, column: Column, runs: Sequence[StoredRun]) -> TableCell:
    """Returns what was measured of a model that has no row on the card, beside its own published number where it has one."""
    measured = _measured(column, runs)
    return entry(suite, column, runs, _published_cell(measured.run, suite, column) if measured else None)


def entry(suite: Suite, column: Column, runs: Sequence[StoredRun], cell: PublishedCell | None) -> TableCell:
    """Returns a published number, if there is one, with what these runs of its model measured beside it; no groups."""
    interval = None
    if cell is not None and cell.n is not None and suite.metrics[cell.metric_key].counted:
        low, high = wilson(round(cell.value * cell.n / 100), cell.n)
        interval = (100 * low, 100 * high)
    measured = _measured(column, runs)
    comparison, reason = None, ""
    if cell is not None and measured is not None:
        reason = _no_verdict(measured.row)
        if not reason:
            comparison, reason = _verdict(measured, cell, suite)
    return TableCell(cell, interval, measured, comparison, reason)


def _verdict(measured: Measured, cell: PublishedCell, suite: Suite) -> tuple[Comparison | None, str]:
    """Returns what ``verify`` says of a cell, or why it says nothing; a win rate of a file has no run to verify."""
    if measured.run.of_files:
        return against(measured.run, measured.row, cell, suite, same_weights=True), ""
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
    having = [(row, run) for run in runs if (row := _row(run, column)) is not None]
    if not having:
        return None
    row, run = max(having, key=lambda one: (one[0].n, one[1].ended))
    wanted = (FULL, row.scorer, row.metric)
    whole_sets = [
        (other, one) for _, one in having for other in one.results if (other.protocol, other.scorer, other.metric) == wanted
    ]
    full = max(whole_sets, key=lambda one: (one[0].n, one[1].ended))[0] if whole_sets else None
    flags = [*filter(None, [run.unhashed]), *(flags_of(run.folder) if is_win_rate(row.metric) else [])]
    source = str(run.manifest.get("source", ""))
    return Measured(row, run, len(having), full, source, tuple(flags), run.lc_ranges.get(row.signature))


def _no_verdict(row: Result) -> str:
    """Returns why a measured row gets no verdict in the table; ``verify`` says more."""
    if row.partial:
        return f"partial ({row.n} of {row.n_protocol})"
    return "no interval" if row.interval == "none" else ""


def _grouped(lines: Sequence[TableLine], columns: int) -> tuple[TableLine, ...]:
    """Returns the lines with letters: published counts among themselves, and measured ones among themselves."""
    entries = [list(line.entries) for line in lines]
    for place in range(columns):
        published = _letters([_published_count(row[place]) for row in entries])
        measured = _letters([_measured_count(row[place]) for row in entries])
        for row, group, measured_group in zip(entries, published, measured, strict=True):
            row[place] = dataclasses.replace(row[place], group=group, measured_group=measured_group)
    return tuple(dataclasses.replace(line, entries=tuple(row)) for line, row in zip(lines, entries, strict=True))


def _letters(counts: Sequence[tuple[int, int] | None]) -> list[str]:
    """Returns the group letters of each count; empty where there is none, or only one to compare."""
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
