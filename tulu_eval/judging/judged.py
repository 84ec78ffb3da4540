"""What a score is made of: one row a judged pair, and who judged it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tulu_eval.benchmarks.alpaca_baselines import Baseline
from tulu_eval.benchmarks.alpaca_set import SIZE, position
from tulu_eval.errors import UserError
from tulu_eval.judging.annotations import Annotations
from tulu_eval.judging.judge import Judgment
from tulu_eval.judging.judge_recipe import ANNOTATOR, ORIGINAL_JUDGE, PROMPT_SHA256, JudgeRecipe, Method, Pair


@dataclasses.dataclass(frozen=True, slots=True)
class Judged:
    """One row that a score is made of.

    Attributes:
        place: Of the instruction among the 805; its difficulty is looked up there.
        preference: In [1, 2], or 0 for an old tie; None where it failed.
        baseline_characters: Length of the baseline's output.
        output_characters: Length of the model's output.
        kind: ``judged``, ``identical``, or the class of the failure.
    """

    place: int
    preference: float | None
    baseline_characters: int
    output_characters: int
    kind: str


@dataclasses.dataclass(frozen=True, slots=True)
class Judge:
    """Who decided, and how it was asked.

    Attributes:
        name: The judge.
        method: How the verdict was read; ``unknown`` for annotations of another's making.
        prompt_sha256: Of the prompt; empty where it is not known.
    """

    name: str
    method: Method | str
    prompt_sha256: str

    @property
    def label(self) -> str:
        """What its numbers are filed under: a verdict read from text is another judge's than one that was weighed."""
        return f"{self.name} (text)" if self.method == "text" else self.name

    @property
    def original(self) -> bool:
        """Whether it is the judge behind the leaderboard, asked as it was."""
        return (self.name, self.method, self.prompt_sha256) == (ORIGINAL_JUDGE, "logprobs", PROMPT_SHA256)

    @classmethod
    def of(cls, recipe: JudgeRecipe) -> Judge:
        """Returns the judge of a recipe."""
        return cls(recipe.judge, recipe.method, recipe.prompt_sha256)


@dataclasses.dataclass(frozen=True, slots=True)
class Terms:
    """What a score's rows are: who judged against whom, and in which ways it was not as behind the published numbers.

    Attributes:
        judge: Who decided.
        baseline: Whose outputs the model's were compared with, known by the outputs; None in folders of versions that did not
            record it.
        exchanged: Whether a row was written with the model as ``output_1``.
        positional: Whether places are row numbers, and not all of them the instructions' own.
    """

    judge: Judge
    baseline: Baseline | None
    exchanged: bool = False
    positional: bool = False


def from_judgments(pairs: Sequence[Pair], judgments: Sequence[Judgment]) -> list[Judged]:
    """Returns the rows of pairs that were judged here.

    Raises:
        UserError: An instruction is not one of the 805.
    """
    rows = []
    for pair, judgment in zip(pairs, judgments, strict=True):
        place = position(pair.instruction)
        if place is None:
            raise UserError(f"{pair.id} is not one of AlpacaEval's {SIZE} instructions, so it has no place in its score")
        rows.append(Judged(place, judgment.preference, len(pair.baseline), len(pair.output), judgment.kind))
    return rows


def from_annotations(annotations: Annotations, positional: bool = False) -> list[Judged]:
    """Returns the rows of a published file; a row without a preference is a failure of class ``missing``.

    Args:
        annotations: The file.
        positional: Take the row's number for its place, as alpaca_eval does; wrong where rows are missing, and there only for
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
    """Returns the judge of a published file; of others than AlpacaEval 2's only the annotator's name is known."""
    if annotations.annotator == ANNOTATOR:
        return Judge(ORIGINAL_JUDGE, "logprobs", PROMPT_SHA256)
    return Judge(annotations.annotator or "unknown", "unknown", "")
