"""Records of the registry's published numbers, and of statements that contradict each other.

As in :mod:`tulu_eval.registry.entries`, each field is the TOML key of the same name.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from tulu_eval.registry.entries import Source

Standing = Literal["published", "secondary", "contradicted"]
"""``published``: from the authors. ``secondary``: from a third party. ``contradicted``: another statement contradicts it."""

Identity = Literal["certain", "inferred"]
"""``certain``: the source names the model. ``inferred``: we worked the model out from what the source prints."""


@dataclasses.dataclass(frozen=True, slots=True)
class CellEntry:
    """One published number as written in TOML.

    Attributes:
        model: Hub id.
        metric: Key of a metric.
        printed: The number exactly as the source prints it, without bold marks.
        source: Key of a source.
        fraction: Whether the source prints a fraction although the metric is in percent.
        n: Items behind the number; ``None`` for the metric's ``n``.
        se: Standard error in the metric's unit; ``None`` if the source gives none.
        label: The source's name for the model if it differs from the model's name, else empty.
        note: Anything else; empty for the source's note.
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
    """A table of published numbers as written in TOML; it stands for one :class:`CellEntry` per number.

    Attributes:
        source: Key of a source.
        columns: Keys of metrics.
        rows: Each row is a hub id and one printed number per column; an empty text where the source has no number.
        fractions: Columns in which the source prints fractions.
        note: Note of every number in the table.
    """

    source: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    fractions: tuple[str, ...] = ()
    note: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class PublishedCell:
    """One published number with its metric, source and standing.

    Attributes:
        metric_key: The registry's name of the metric, e.g. ``GSM8K_8shot_CoT``.
        benchmark: Name of the benchmark, e.g. ``gsm8k``.
        protocol: This project's protocol that gives the number; ``None`` if it has none.
        metric: Metric of that protocol, e.g. ``exact_match``.
        value: The number in ``unit``.
        unit: ``percent``, ``points`` or ``characters``.
        n: Items behind the number; ``None`` if unknown.
        se: Standard error in ``unit``; ``None`` if not published.
        printed: The number as the source prints it.
        label: The source's name for the model if it differs from the model's name, else empty.
        contradictions: Ids of the contradictions that make the number ``contradicted``.
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
        """Model, metric key and source key, which identify the number."""
        return (self.model, self.metric_key, self.source.key)


@dataclasses.dataclass(frozen=True, slots=True)
class CellRef:
    """A reference to one published number by the model's hub id and the keys of metric and source."""

    model: str
    metric: str
    source: str


@dataclasses.dataclass(frozen=True, slots=True)
class Contradiction:
    """Two published statements that cannot both be right, or one that is plainly wrong.

    Attributes:
        title: What it is about, in a few words; if empty, the first statement is shown in its place.
        first: One statement.
        first_source: Key of its source.
        second: The other statement, or the fact that refutes the first.
        second_source: Key of its source.
        advice: One line for a user.
        models: Hub ids of the models concerned.
        cells: Published numbers that it makes ``contradicted``.
        pattern: Multi-line regular expression that finds the first statement in the card's text; empty if the card lacks it.
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
    title: str = ""
