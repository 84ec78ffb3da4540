"""What the registry holds of published numbers, and of statements that contradict each other.

As in :mod:`tulu_eval.registry.entries`, a field is the TOML key of the same name.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from tulu_eval.registry.entries import Source

Standing = Literal["published", "secondary", "contradicted"]
"""``published``: first-hand. ``secondary``: known through a third party. ``contradicted``: the record also says otherwise."""

Identity = Literal["certain", "inferred"]
"""Whether the source names the model itself, or the model was worked out from what the source prints."""


@dataclasses.dataclass(frozen=True, slots=True)
class CellEntry:
    """One published number as written in TOML.

    Attributes:
        model: Hub id.
        metric: Key of a metric.
        printed: Exactly as the source prints it, bold marks left out.
        source: Key of a source.
        fraction: Whether the source prints a fraction where the metric is in percent.
        n: Items, where it differs from the metric's.
        se: Standard error in the metric's unit, where the source gives one.
        label: What the source calls the model, where that is not its name.
        identity: Whether the source names this model.
        note: Anything else.
    """

    model: str
    metric: str
    printed: str
    source: str
    fraction: bool = False
    n: int | None = None
    se: float | None = None
    label: str = ""
    identity: Identity = "certain"
    note: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class TableEntry:
    """A table of published numbers as written in TOML: the same as one :class:`CellEntry` for each number in it.

    Attributes:
        source: Key of a source.
        columns: Keys of metrics.
        rows: A row is a hub id and one printed number for each column, empty where the source has none.
        fractions: Columns in which the source prints fractions.
        note: Goes with every number.
    """

    source: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    fractions: tuple[str, ...] = ()
    note: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class PublishedCell:
    """One published number, with everything that goes with it.

    Attributes:
        model: Hub id.
        metric_key: The registry's name of the metric, e.g. ``GSM8K_8shot_CoT``.
        benchmark: Name of the benchmark, e.g. ``gsm8k``.
        protocol: This project's protocol that makes the number; none where it has none.
        metric: Metric of that protocol, e.g. ``exact_match``.
        value: In ``unit``.
        unit: ``percent``, ``points`` or ``characters``.
        n: Items behind it, where known.
        se: Standard error in ``unit``, where published.
        printed: As the source prints it.
        source: Where it is printed.
        standing: What it is worth.
        label: What the source calls the model, where that is not its name.
        identity: Whether the source names this model.
        note: Anything else.
        contradictions: Ids of the contradictions that take its standing away.
    """

    model: str
    metric_key: str
    benchmark: str
    protocol: str | None
    metric: str
    value: float
    unit: str
    n: int | None
    se: float | None
    printed: str
    source: Source
    standing: Standing
    label: str
    identity: Identity
    note: str
    contradictions: tuple[str, ...]

    @property
    def place(self) -> tuple[str, str, str]:
        """What tells it from every other number: model, metric and source."""
        return (self.model, self.metric_key, self.source.key)


@dataclasses.dataclass(frozen=True, slots=True)
class CellRef:
    """Names one published number: model, metric and source."""

    model: str
    metric: str
    source: str


@dataclasses.dataclass(frozen=True, slots=True)
class Contradiction:
    """Two statements of the published record that cannot both be right, or one that is plainly wrong.

    Attributes:
        id: Short name.
        first: One statement.
        first_source: Key of its source.
        second: The other statement, or what is known instead.
        second_source: Key of its source.
        advice: One line for a user.
        models: Hub ids of the models concerned.
        cells: Published numbers that it makes ``contradicted``.
        pattern: Regular expression (multi-line) that finds the first statement in the text of the card, where it can be found.
    """

    id: str
    first: str
    first_source: str
    second: str
    second_source: str
    advice: str
    models: tuple[str, ...] = ()
    cells: tuple[CellRef, ...] = ()
    pattern: str = ""
