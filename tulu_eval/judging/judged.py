"""The input of a score: one row per judged pair, and the judge."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tulu_eval.benchmarks.alpaca_baselines import Baseline
from tulu_eval.benchmarks.alpaca_set import SIZE, position
from tulu_eval.errors import UserError
from tulu_eval.judging.annotations import Annotations
from tulu_eval.judging.judge import Judgment
from tulu_eval.judging.judge_recipe import EDITIONS, Edition, JudgeRecipe, Method, Pair, edition_of


@dataclasses.dataclass(frozen=True, slots=True)
class Judged:
    """One row of a score's input.

    Attributes:
        place: 0-based place of the instruction among the 805, which gives its difficulty.
        preference: In [1, 2], or 0 for an old tie; ``None`` if judging failed.
        kind: ``judged``, ``identical``, or the class of the failure.
    """

    place: int
    preference: float | None
    baseline_characters: int
    output_characters: int
    kind: str


@dataclasses.dataclass(frozen=True, slots=True)
class Judge:
    """A judge with the method and the prompt of its verdicts.

    Attributes:
        method: ``logprobs``, ``text`` or ``ranking``; ``unknown`` for annotations by another annotator.
        prompt_sha256: Hash of the prompt; empty if unknown.
    """

    name: str
    method: Method | str
    prompt_sha256: str

    @property
    def label(self) -> str:
        """The name of its numbers; verdicts read from text have another name than weighed ones."""
        return f"{self.name} (text)" if self.method == "text" else self.name

    @property
    def original(self) -> bool:
        """Whether this is the leaderboard's judge with the leaderboard's method and prompt."""
        return self == Judge.of_edition(self.edition)

    @property
    def edition(self) -> Edition:
        """The edition of AlpacaEval whose win rates these verdicts give."""
        return edition_of(self.method)

    @classmethod
    def of_edition(cls, edition: Edition) -> Judge:
        """Returns the judge of an edition's published win rates."""
        return cls(edition.judge, edition.method, edition.prompt_sha256)

    @classmethod
    def of(cls, recipe: JudgeRecipe) -> Judge:
        """Returns the judge of a recipe."""
        return cls(recipe.judge, recipe.method, recipe.prompt_sha256)


@dataclasses.dataclass(frozen=True, slots=True)
class Terms:
    """The terms of a score: judge, baseline, and deviations from the published numbers' procedure.

    Attributes:
        baseline: The baseline, identified by its outputs; ``None`` in folders of versions that did not record it.
        exchanged: Whether a row was written with the model as ``output_1``.
        positional: Whether row numbers replace the instructions' places and at least one differs.
    """

    judge: Judge
    baseline: Baseline | None
    exchanged: bool = False
    positional: bool = False

    @property
    def edition(self) -> Edition:
        """The edition of AlpacaEval whose win rates these are."""
        return self.judge.edition

    @property
    def published_baseline(self) -> bool:
        """Whether the baseline is the edition's own."""
        return self.baseline == self.edition.baseline.baseline


def from_judgments(pairs: Sequence[Pair], judgments: Sequence[Judgment]) -> list[Judged]:
    """Returns the rows of pairs that this program judged; raises UserError if an instruction is not one of the 805."""
    rows = []
    for pair, judgment in zip(pairs, judgments, strict=True):
        place = position(pair.instruction)
        if place is None:
            raise UserError(f"{pair.id} is not one of AlpacaEval's {SIZE} instructions, so the score has no place for it")
        rows.append(Judged(place, judgment.preference, len(pair.baseline), len(pair.output), judgment.kind))
    return rows


def from_annotations(annotations: Annotations, positional: bool = False) -> list[Judged]:
    """Returns the rows of a published file; a row without a preference is a failure of class ``missing``.

    ``positional`` uses the row's number as its place, as alpaca_eval does. This is wrong if rows are missing; it only serves
    parity with numbers that were published so.
    """
    rows = []
    for number, row in enumerate(annotations.rows):
        same = row.baseline == row.output
        kind = "missing" if row.preference is None else "identical" if same else "judged"
        place = number if positional else row.place
        rows.append(Judged(place, row.preference, len(row.baseline), len(row.output), kind))
    return rows


def terms_of(annotations: Annotations, positional: bool = False) -> Terms:
    """Returns the terms of a published file's rows."""
    moved = positional and any(number != row.place for number, row in enumerate(annotations.rows))
    return Terms(annotator_judge(annotations), annotations.baseline, annotations.exchanged, moved)


def annotator_judge(annotations: Annotations) -> Judge:
    """Returns the judge of a published file; for an annotator other than the editions', only its name is known."""
    for edition in EDITIONS:
        if annotations.annotator == edition.annotator:
            return Judge.of_edition(edition)
    return Judge(annotations.annotator or "unknown", "unknown", "")
