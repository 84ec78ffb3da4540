"""Contradictions of published numbers that arithmetic finds: impossible shares, averages of no row, equal neighbours.

They stand beside the contradictions that are written in TOML, and are computed from the numbers each time the suite is loaded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal

from tulu_eval.registry.arithmetic import (
    FEWEST_TERMS,
    AverageRule,
    EqualRows,
    Term,
    equal_rows,
    is_share,
    rules,
    sizes,
    spread_of,
)
from tulu_eval.registry.cells import percent
from tulu_eval.registry.entries import Metric, Model
from tulu_eval.registry.published import CellEntry, CellRef, Contradiction

AVERAGE = "average"
"""Metric of a number that is the mean of a row."""


@dataclasses.dataclass(frozen=True, slots=True)
class RuleValue:
    """What a rule gives for a row.

    Attributes:
        words: The rule in words.
        value: In percent.
        fits: Whether the printed average can be this value.
    """

    rule: AverageRule
    words: str
    value: float
    fits: bool


@dataclasses.dataclass(frozen=True, slots=True)
class AverageCheck:
    """A printed average beside what each rule gives for its row.

    Attributes:
        model: Hub id of the row's model.
        metric: Key of the average's metric.
        source: Key of the row's source.
        columns: Keys of the metrics of the row's other numbers.
        values: One per rule, the plain mean first.
    """

    model: str
    metric: str
    source: str
    printed: str
    columns: tuple[str, ...]
    values: tuple[RuleValue, ...]

    @property
    def fitting(self) -> tuple[RuleValue, ...]:
        """The rules that explain the printed average."""
        return tuple(one for one in self.values if one.fits)


def term_of(metric: Metric, value: Decimal) -> Term:
    """Returns a number of a metric as a term of an average; the columns of one benchmark are a group."""
    return Term(metric.key, value, metric.benchmark, metric.lower_is_better)


def values_of(printed: Decimal, terms: Sequence[Term]) -> tuple[RuleValue, ...]:
    """Returns what each rule gives for a row, and whether an average can be printed so."""
    return tuple(RuleValue(rule, rule.words(terms), rule.mean(terms), rule.gives(printed, terms)) for rule in rules(terms))


def averages(cells: Sequence[CellEntry], metrics: Mapping[str, Metric]) -> Iterator[AverageCheck]:
    """Yields a check for each average whose source prints at least :data:`FEWEST_TERMS` other percentages of the model."""
    rows: dict[tuple[str, str], list[CellEntry]] = {}
    for cell in cells:
        rows.setdefault((cell.model, cell.source), []).append(cell)
    for cell in cells:
        if metrics[cell.metric].metric != AVERAGE:
            continue
        terms = [
            term_of(metrics[one.metric], percent(one))
            for one in rows[cell.model, cell.source]
            if metrics[one.metric].metric != AVERAGE and metrics[one.metric].unit == "percent"
        ]
        if len(terms) >= FEWEST_TERMS:
            columns = tuple(term.name for term in terms)
            values = values_of(percent(cell), terms)
            yield AverageCheck(cell.model, cell.metric, cell.source, cell.printed, columns, values)


def contradictions(
    cells: Sequence[CellEntry],
    checked: Iterable[AverageCheck],
    metrics: Mapping[str, Metric],
    models: Mapping[str, Model],
) -> Iterator[Contradiction]:
    """Yields what arithmetic finds, each with the numbers that it makes contradicted."""
    names = {hub_id: hub_id.partition("/")[2] for hub_id in models}
    printed = {(cell.model, cell.metric, cell.source): cell.printed for cell in cells}
    for cell in cells:
        metric = metrics[cell.metric]
        n = cell.n if cell.n is not None else metric.n
        if metric.halves and n is not None and not is_share(percent(cell), n, 2):
            yield _impossible(cell, metric, n, names[cell.model])
    for check in checked:
        if not check.fitting:
            yield _underivable(check, metrics[check.metric], names[check.model])
    for source in dict.fromkeys(cell.source for cell in cells):
        for equal in _equal([cell for cell in cells if cell.source == source], metrics, models):
            numbers = [f"{metrics[key].title} {printed[equal.first, key, source]}" for key in equal.columns]
            benchmarks = dict.fromkeys(metrics[key].benchmark for key in equal.columns)
            yield _neighbours(equal, source, numbers, benchmarks, names)


def _impossible(cell: CellEntry, metric: Metric, n: int, name: str) -> Contradiction:
    found = sizes(percent(cell), n, 2)
    could = f"; it can be of {' or '.join(map(str, found))}" if found else ""
    return Contradiction(
        id=_id("share", metric.key.replace("_", "-"), name),
        title=f"{metric.title}, of {name}: {cell.printed} is no share of {n} items",
        first=f"{metric.title}, of {name} is printed as {cell.printed}, and the benchmark has {n} items.",
        first_source=cell.source,
        second=f"No share of {n} items rounds to it, a tie counted one half{could}.",
        second_source=cell.source,
        advice="Some items have no judgment behind it, and nobody says which; compare it as a number of fewer items.",
        models=(cell.model,),
        cells=(CellRef(cell.model, cell.metric, cell.source),),
    )


def _underivable(check: AverageCheck, metric: Metric, name: str) -> Contradiction:
    tried = "; ".join(f"{one.words}: {one.value:.2f}" for one in check.values)
    return Contradiction(
        id=_id("average", name),
        title=f"{metric.title}, of {name}: {check.printed} follows from no rule",
        first=f"{metric.title}, of {name} is printed as {check.printed}.",
        first_source=check.source,
        second=f"No rule that was tried gives it from its row ({tried}).",
        second_source=check.source,
        advice="Do not compare averages of this table; compare their columns.",
        models=(check.model,),
        cells=(CellRef(check.model, check.metric, check.source),),
    )


def _equal(cells: Sequence[CellEntry], metrics: Mapping[str, Metric], models: Mapping[str, Model]) -> Iterator[EqualRows]:
    """Yields the models of a source that print the same as the model that they were made from."""
    table: dict[str, dict[str, Decimal]] = {}
    for cell in cells:
        if metrics[cell.metric].unit == "percent":
            table.setdefault(cell.model, {})[cell.metric] = percent(cell)
    pairs = [(base, model) for model in table if (base := models[model].base) in table and base is not None]
    spreads = {}
    for key in {name for row in table.values() for name in row}:
        metric = metrics[key]
        n, parts = (metric.n, 2) if metric.halves else (metric.n if metric.counted else None, 1)
        spreads[key] = spread_of([row[key] for row in table.values() if key in row], n, parts)
    return equal_rows(table, pairs, spreads)


def _neighbours(
    equal: EqualRows, source: str, numbers: Iterable[str], benchmarks: Iterable[str], names: Mapping[str, str]
) -> Contradiction:
    first, second = names[equal.first], names[equal.second]
    benchmarks = tuple(benchmarks)
    return Contradiction(
        id=_id("equal", *benchmarks, second),
        title=f"{second} has the same numbers as {first}: {' and '.join(benchmarks)}",
        first=f"{second} has the printed numbers of {first}, from which it was made: {' and '.join(numbers)}.",
        first_source=source,
        second=f"By chance {equal.chance:.2g} such pairs are expected among the models of this table and their starts.",
        second_source=source,
        advice="One of the two may be a copy of the other's number: rely on neither until it has been measured again.",
        models=(equal.first, equal.second),
        cells=tuple(CellRef(model, key, source) for model in (equal.first, equal.second) for key in equal.columns),
    )


def _id(*parts: str) -> str:
    return "-".join(parts).lower()
