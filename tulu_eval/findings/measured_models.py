"""All numbers of each measured model, published beside measured: the suite's columns as lines, one table per model.

A line is a published number, a measured one, or both. Measured numbers that no published metric of the registry names, such as
those of a stratified sample, follow under their own protocol.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from tulu_eval import plugins
from tulu_eval.findings.averages import MeasuredAverage, averages
from tulu_eval.findings.owners import owners_of
from tulu_eval.findings.published_cells import released_model, remembered_model
from tulu_eval.findings.table import TableCell, entry
from tulu_eval.findings.table_columns import Column
from tulu_eval.records import Result
from tulu_eval.registry import Model, PublishedCell, Suite
from tulu_eval.runs.reading import StoredRun, find_runs


@dataclasses.dataclass(frozen=True, slots=True)
class SuiteLine:
    """One number of a model.

    Attributes:
        title: The registry's name of the metric; for a number that it does not name, benchmark and protocol.
        metric: Metric of the measured row, e.g. ``exact_match``.
    """

    title: str
    benchmark: str
    metric: str
    cell: TableCell


@dataclasses.dataclass(frozen=True, slots=True)
class MeasuredModel:
    """A measured model with all its numbers.

    Attributes:
        label: Name in the registry, else the name under which its runs are filed.
        elsewhere: Number of its published numbers that no protocol here measures.
        averages: The card's average by each rule that explains a printed one; empty if none of its columns was measured.
    """

    label: str
    size: str
    stage: str
    lines: tuple[SuiteLine, ...]
    elsewhere: int
    averages: tuple[MeasuredAverage, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class SuiteTable:
    """The measured models by name.

    Attributes:
        problems: Run folders that cannot be used, with the reason, one line each.
    """

    models: tuple[MeasuredModel, ...]
    problems: tuple[str, ...]


def collect(suite: Suite, results: Path, each: Callable[[Sequence[Path]], Iterable[Path]] = iter) -> SuiteTable:
    """Returns the numbers of the models whose runs lie under a folder; ``each`` as for :func:`find_runs`."""
    runs, problems = find_runs(results, each)
    unfinished = [f"{run.folder}: {run.tally.unfinished}" for run in runs if run.tally.unfinished]
    owners = owners_of([run for run in runs if run.tally.finished], suite)
    return SuiteTable(tuple(_model(owner, owners[owner], suite) for owner in sorted(owners)), (*problems, *unfinished))


def _model(owner: str, runs: list[StoredRun], suite: Suite) -> MeasuredModel:
    model = next(filter(None, (released_model(run, suite) for run in runs)), None)
    released = model is not None and model.hub_id == owner
    lines = [*_published(suite, runs, model), *_others(suite, runs)]
    cells = suite.cells(model) if model else ()
    return MeasuredModel(
        label=model.name if model and released else owner,
        size=model.size if model else "-",
        stage=model.stage if model else "-",
        lines=tuple(lines),
        elsewhere=sum(not _here(suite, cell) for cell in cells),
        averages=averages(suite, [line.cell.measured.row for line in lines if line.cell.measured]),
    )


def _here(suite: Suite, cell: PublishedCell) -> bool:
    """Whether a protocol here measures a published number."""
    return suite.metrics[cell.metric_key].protocol is not None and cell.benchmark in plugins.names(plugins.BENCHMARKS)


def _published(suite: Suite, runs: Sequence[StoredRun], model: Model | None) -> Iterator[SuiteLine]:
    """Yields a line per metric of the registry that the model has a published or a measured number of."""
    for metric in suite.metrics.values():
        column = Column(metric.key, metric.title, metric.benchmark, metric.protocol, metric.metric)
        found = entry(suite, column, runs, _cell(suite, runs, model, metric.key))
        if found.measured or (found.cell is not None and _here(suite, found.cell)):
            yield SuiteLine(metric.title, metric.benchmark, metric.metric, found)


def _cell(suite: Suite, runs: Sequence[StoredRun], model: Model | None, key: str) -> PublishedCell | None:
    """Returns the first published number of a metric: of the model, else of the one that ``verify --as`` has named."""
    named = next(filter(None, (model, *(remembered_model(run.folder, suite) for run in runs))), None)
    return next((cell for cell in suite.cells(named) if cell.metric_key == key), None) if named else None


def _others(suite: Suite, runs: Sequence[StoredRun]) -> Iterator[SuiteLine]:
    """Yields a line per measured number that the registry has no metric for: of each protocol, metric and judge the first."""
    named = {(metric.benchmark, metric.protocol, metric.metric) for metric in suite.metrics.values()}
    best: dict[tuple[str, str, str, str], tuple[Result, StoredRun]] = {}
    for run in sorted(runs, key=lambda one: one.ended):
        seen: set[tuple[str, str]] = set()
        for row in run.results:
            if (row.protocol, row.metric) in seen or (run.benchmark, row.protocol, row.metric) in named:
                continue
            seen.add((row.protocol, row.metric))
            place = (run.benchmark, row.protocol, row.metric, row.scorer)
            if place not in best or row.n >= best[place][0].n:
                best[place] = row, run
    for (benchmark, protocol, metric, _), (row, run) in sorted(best.items(), key=lambda one: one[0]):
        column = Column("", f"{benchmark} {protocol}", benchmark, protocol, metric)
        yield SuiteLine(column.title, benchmark, metric, entry(suite, column, [_only(run, row)], None))


def _only(run: StoredRun, row: Result) -> StoredRun:
    return dataclasses.replace(run, results=(row,))
