"""The columns of the card's table: for each metric of the card one per judge, and one for each other published metric.

The page has :func:`all_columns`: those of every published metric, measured or not, and of every measured number without one.

A raw win rate is never in the length-controlled column, and one judge's number is never in another judge's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from tulu_eval.judging.numbers import CALIBRATED, is_win_rate, other_scale
from tulu_eval.records import Result
from tulu_eval.registry import Suite
from tulu_eval.runs.reading import StoredRun

TITLES = {"GSM8K_8shot_CoT": "GSM8K", "AlpacaEval2_LC": "AlpacaEval 2 LC"}
"""Short titles of the two number columns of the card, by metric of the registry."""

RAW = "AlpacaEval2_WR"
"""The registry's metric of AlpacaEval 2's raw win rates; a calibrated win rate is an estimate of it."""

FIRST = "AlpacaEval1_WR"
"""The registry's metric of AlpacaEval 1's win rates, which have no length control."""


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """A pair of columns: published and measured.

    Attributes:
        metric_key: Key of the metric in the registry; empty for a measured number that no metric names.
        protocol: Protocol of the results in the column: the one behind the published numbers.
        judge: Name of the judge; empty for the published judge, and for a metric without a judge.
    """

    metric_key: str
    name: str
    benchmark: str
    protocol: str | None
    metric: str
    judge: str = ""

    @property
    def title(self) -> str:
        """Title, with a comma after a judge's name so that words can follow."""
        return f"{self.name}, judge {self.judge}{' calibrated' if self.calibrated else ''}," if self.judge else self.name

    @property
    def calibrated(self) -> bool:
        """Whether the numbers are estimates of the published judge's."""
        return self.metric.endswith(CALIBRATED)


def columns_of(suite: Suite, runs: Sequence[StoredRun]) -> Iterator[Column]:
    """Yields the columns: of a win rate one per judge, of a raw one only for judges of runs without another."""
    for key, name in TITLES.items():
        metric = suite.metrics[key]
        own = Column(key, name, metric.benchmark, metric.protocol, metric.metric)
        yield own
        if not is_win_rate(metric.metric):
            continue
        raw = Column(RAW, "AlpacaEval 2 win rate", own.benchmark, own.protocol, "win_rate")
        mapped = dataclasses.replace(raw, metric=raw.metric + CALIBRATED)
        only_raw = {judge for run in runs for judge in {*_judges(raw, [run])} - {*_judges(own, [run])}}
        judges = ((own, filter(None, _judges(own, runs))), (raw, sorted(only_raw)), (mapped, _judges(mapped, runs)))
        yield from (dataclasses.replace(column, judge=judge) for column, names in judges for judge in names)
    first = suite.metrics[FIRST]
    own = Column(FIRST, "AlpacaEval 1", first.benchmark, first.protocol, first.metric)
    yield from (dataclasses.replace(own, judge=judge) for judge in _judges(own, runs))
    yield from _measured_columns(suite, runs)


def _measured_columns(suite: Suite, runs: Sequence[StoredRun]) -> Iterator[Column]:
    """Yields a column for each published metric that is not on the card and that a run has measured."""
    for metric in suite.metrics.values():
        own = Column(metric.key, metric.title, metric.benchmark, metric.protocol, metric.metric)
        if metric.key in TITLES or is_win_rate(metric.metric) or metric.protocol is None:
            continue
        if any(_rows(run, own) for run in runs) and any(
            cell.metric_key == metric.key for cell in suite.cells(benchmark=metric.benchmark)
        ):
            yield own


def all_columns(suite: Suite, runs: Sequence[StoredRun]) -> tuple[Column, ...]:
    """Returns :func:`columns_of`, then a column per other published metric, then one per measured number that none names."""
    columns = list(columns_of(suite, runs))
    published = {cell.metric_key for cell in suite.cells()}
    there = {column.metric_key for column in columns if not column.judge}
    for known in suite.metrics.values():
        if known.key in published - there:
            columns.append(Column(known.key, known.title, known.benchmark, known.protocol, known.metric))
    named = {(column.benchmark, column.protocol, column.metric) for column in columns}
    for benchmark, protocol, metric in sorted(
        {(run.benchmark, row.protocol, row.metric) for run in runs for row in run.results}
    ):
        if (benchmark, protocol, metric) not in named and not is_win_rate(metric):
            name = f"{benchmark} {protocol}, {metric.replace('_', ' ')}"
            columns.append(Column("", name, benchmark, protocol, metric))
    return tuple(columns)


def _judges(column: Column, runs: Sequence[StoredRun]) -> list[str]:
    """Returns the judges that gave numbers of a column's metric; the published judge's name is empty."""
    return sorted({other_scale(row) for run in runs for row in _rows(run, column)})


def _rows(run: StoredRun, column: Column) -> list[Result]:
    """Returns the rows of a run with a column's metric, by any judge."""
    if run.benchmark != column.benchmark:
        return []
    return [row for row in run.results if row.protocol == column.protocol and row.metric == column.metric]


def row_of(run: StoredRun, column: Column) -> Result | None:
    """Returns the row of a run that belongs in a column; ``None`` if there is none."""
    return next((row for row in _rows(run, column) if other_scale(row) == column.judge), None)
