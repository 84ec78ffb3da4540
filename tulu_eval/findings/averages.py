"""The card's "Average" of a model's own rows: by each rule that explains a printed one, where all its columns were measured.

The cards compute theirs in more than one way, some in no way that anybody found (:mod:`tulu_eval.registry.lint`). So
a measured average is named by its rule and its columns, and stands beside no printed one of another rule.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal

from tulu_eval.records import Result
from tulu_eval.registry import Suite
from tulu_eval.registry.arithmetic import AverageRule
from tulu_eval.registry.lint import AVERAGE, term_of
from tulu_eval.stats import mean_interval
from tulu_eval.stats.intervals import z_value


@dataclasses.dataclass(frozen=True, slots=True)
class MeasuredAverage:
    """A mean of measured columns.

    Attributes:
        rule: The rule in words.
        explains: Names of the models whose printed average it explains.
        columns: Titles of the columns.
        value: In percent; ``None`` if a column was not measured.
        low: Lower end of the 95 % interval; ``None`` without one.
        high: Upper end of the 95 % interval; ``None`` without one.
        why: Why there is no value, or no interval; empty if there are both.
    """

    rule: str
    explains: tuple[str, ...]
    columns: tuple[str, ...]
    value: float | None
    low: float | None
    high: float | None
    why: str


def averages(suite: Suite, rows: Sequence[Result]) -> tuple[MeasuredAverage, ...]:
    """Returns the average of a model's rows by each rule that explains an average on a card; none if no column was measured.

    The interval takes the errors of different benchmarks as independent: their items differ. Those of the columns of one
    benchmark are added up, the most that they can be together.
    """
    found: dict[tuple[AverageRule, tuple[str, ...]], tuple[str, list[str]]] = {}
    for check in suite.averages():
        if suite.metrics[check.metric].benchmark == AVERAGE:
            for one in check.fitting:
                found.setdefault((one.rule, check.columns), (one.words, []))[1].append(suite.find(check.model).name)
    measured = {key: row for _, columns in found for key in columns if (row := _row(suite, key, rows)) is not None}
    if not measured:
        return ()
    return tuple(
        _average(suite, rule, words, tuple(names), columns, measured) for (rule, columns), (words, names) in found.items()
    )


def _row(suite: Suite, key: str, rows: Sequence[Result]) -> Result | None:
    """Returns the whole row that measures a metric of the registry; ``None`` if there is none."""
    metric = suite.metrics[key]
    wanted = (metric.benchmark, metric.protocol, metric.metric)
    return next((row for row in rows if (row.benchmark, row.protocol, row.metric) == wanted and row.whole), None)


def _average(
    suite: Suite,
    rule: AverageRule,
    words: str,
    names: tuple[str, ...],
    columns: tuple[str, ...],
    measured: Mapping[str, Result],
) -> MeasuredAverage:
    titles = tuple(suite.metrics[key].title for key in columns)
    if missing := [title for key, title in zip(columns, titles, strict=True) if key not in measured]:
        return MeasuredAverage(words, names, titles, None, None, None, f"not measured whole: {'; '.join(missing)}")
    rows = [measured[key] for key in columns]
    terms = [term_of(suite.metrics[key], Decimal(str(row.value))) for key, row in zip(columns, rows, strict=True)]
    value = rule.mean(terms)
    if without := [title for row, title in zip(rows, titles, strict=True) if row.interval == "none"]:
        return MeasuredAverage(words, names, titles, value, None, None, f"no interval of {'; '.join(without)}")
    errors: dict[str, float] = {}
    for row, weight in zip(rows, rule.weights(terms), strict=True):
        errors[row.benchmark] = errors.get(row.benchmark, 0.0) + weight * (row.high - row.low) / 2 / z_value(0.95)
    low, high = mean_interval(value / 100, math.hypot(*errors.values()) / 100)
    return MeasuredAverage(words, names, titles, value, 100 * low, 100 * high, "")
