"""JSON of table and report."""

from __future__ import annotations

from json_shapes.base import Shape
from tulu_eval.findings.averages import MeasuredAverage
from tulu_eval.records import Result
from tulu_eval.registry import PublishedCell
from tulu_eval.stats.agreement import Agreement


class CardCell(Shape, frozen=True):
    """A number of the card's table.

    Attributes:
        judge: Judge of a column that has another one than the published numbers; else empty.
        published: The published number; null for none.
        published_interval: Its 95 % interval.
        group: Letters of the published number; rows that share one are not separated by the data.
        measured: The run's row; null if it was not measured.
        measured_full: The row over all items beside it.
        run: Folder of the run.
        runs: Number of runs of this model and column.
        source: Where a number that was not measured here is from.
        flags: What to beware of.
        lc_range: Lowest and highest value over the constants C behind published numbers.
        no_verdict_because: Why there is no agreement; empty if there is one.
    """

    metric: str
    judge: str
    published: PublishedCell | None
    published_interval: tuple[float, float] | None
    group: str
    measured: Result | None
    measured_full: Result | None
    measured_group: str
    run: str | None
    runs: int
    source: str
    flags: tuple[str, ...]
    lc_range: tuple[float, float] | None
    agreement: Agreement | None
    no_verdict_because: str


class CardLine(Shape, frozen=True):
    """A row of the card's table."""

    label: str
    size: str
    alignment: str
    model: str
    on_card: bool
    columns: tuple[CardCell, ...]


class CardTable(Shape, frozen=True):
    """The card's table.

    Attributes:
        problems: Run folders that are not in it, and why.
        runs_elsewhere: Number of runs of benchmarks that have no column here, by benchmark.
        apart: Numbers that stand in no column, and why.
    """

    lines: tuple[CardLine, ...]
    problems: tuple[str, ...]
    runs_elsewhere: dict[str, int]
    apart: tuple[str, ...]


class SuiteLine(Shape, frozen=True):
    """A number of a measured model, published beside measured; null where one of them is not there."""

    label: str
    size: str
    stage: str
    title: str
    benchmark: str
    protocol: str | None
    metric: str
    scorer: str | None
    published: str | None
    published_n: int | None
    value: float | None
    low: float | None
    high: float | None
    n: int | None
    n_protocol: int | None
    interval: str | None
    verdict: str
    p_value: float | None
    detectable: float | None
    signature: str | None


class SuiteModel(Shape, frozen=True):
    """A measured model.

    Attributes:
        elsewhere: Number of its published numbers that were not measured and have no line.
    """

    label: str
    elsewhere: int
    averages: tuple[MeasuredAverage, ...]
    lines: tuple[SuiteLine, ...]


class SuiteTable(Shape, frozen=True):
    """All numbers of the measured models."""

    models: tuple[SuiteModel, ...]
    problems: tuple[str, ...]


class WrittenPage(Shape, frozen=True):
    """A page that was written.

    Attributes:
        path: The file.
        size: Its characters.
        runs: Number of runs on it.
        trained: Number of training runs on it.
        problems: Run folders that it does not show, and why.
        promptless: Benchmarks whose prompts it does not show, and why.
    """

    path: str
    size: int
    runs: int
    trained: int
    problems: tuple[str, ...]
    promptless: tuple[str, ...]
