"""JSON of the verbs that judge and train."""

from __future__ import annotations

from typing import Any

from json_shapes.base import Shape
from tulu_eval.records import Result


class Fit(Shape, frozen=True):
    """A length-controlled win rate at one regularisation constant."""

    c: float
    value: float


class WinRates(Shape, frozen=True):
    """Win rates of AlpacaEval judgments.

    Attributes:
        counts: Instructions by what became of them; together all 805.
        c: Regularisation constant of the length-controlled rate; null without one.
        lc_range: Lowest and highest value over the constants behind published numbers.
        lc_over_grid: The rate at each constant.
        mean_characters: Mean length of the outputs.
        remarks: What to beware of.
    """

    counts: dict[str, int]
    results: tuple[Result, ...]
    c: float | None
    lc_range: tuple[float, float] | None
    lc_over_grid: tuple[Fit, ...]
    mean_characters: float | None
    remarks: tuple[str, ...]


class Judged(WinRates, frozen=True):
    """Win rates of judgments that were just made.

    Attributes:
        folder: The judge's folder.
    """

    folder: str


class Labelled(Shape, frozen=True):
    """Answers that a judge labelled (xstest, truthfulqa, toxigen).

    Attributes:
        folder: The judge's folder.
        counts: Answers by what became of them.
        remarks: What to beware of.
    """

    folder: str
    counts: dict[str, int]
    results: tuple[Result, ...]
    remarks: tuple[str, ...]


class ComparedOutputs(Shape, frozen=True):
    """AlpacaEval outputs beside published ones.

    Attributes:
        n: Instructions that both sides have.
        exact: Outputs that are equal in every character.
        stripped: Outputs that are equal up to white space.
        divergence: Number of each other instruction, and of the character at which its outputs part.
        length_ratio: Length of the outputs by that of the published ones.
        still_apply: Published judgments that still apply.
        record: Published judgments.
        median_divergence: Median of the characters at which outputs part; null if all are equal.
    """

    n: int
    exact: int
    stripped: int
    divergence: tuple[tuple[int, int], ...]
    length_ratio: float
    still_apply: int
    record: int
    median_divergence: float | None


class Trained(Shape, frozen=True):
    """A training.

    Attributes:
        finished: Whether it came to its end; else it stopped with a checkpoint.
        models: Folders of the exported models.
    """

    finished: bool
    folder: str
    models: tuple[str, ...]


class Sourced(Shape, frozen=True):
    """A setting of a recipe, and the key of its source."""

    value: Any
    source: str


class TrainingPlan(Shape, frozen=True):
    """What a training would do.

    Attributes:
        about: What the recipe is.
        sources: The sources by their keys.
        otherwise: What no setting says, and how it is done.
        rewards: Weight of each reward.
        rows_dropped: Rows that are left out, by reason.
        memory_bytes: Memory of one device, by what needs it.
    """

    stage: str
    recipe: str
    about: str
    settings: dict[str, Sourced]
    sources: dict[str, str]
    otherwise: dict[str, str]
    model: str
    reward_model: str | None
    rewards: dict[str, float]
    notices: tuple[str, ...]
    rows_kept: int
    rows_dropped: dict[str, int]
    tokens: int
    steps: int
    updates: int
    ranks: int
    memory_bytes: dict[str, int]
    seconds_at_least: float
    seconds_at_most: float
    folder: str
