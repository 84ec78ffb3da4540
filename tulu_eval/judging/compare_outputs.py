"""Compares a model's outputs with published outputs for the same instructions, without a judge.

If an output equals the published one, character for character, the published judgment still applies.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping

from tulu_eval.benchmarks.alpaca_set import SIZE
from tulu_eval.errors import UserError
from tulu_eval.judging.annotations import Annotations
from tulu_eval.judging.outputs import Outputs


@dataclasses.dataclass(frozen=True, slots=True)
class OutputComparison:
    """The differences between a model's outputs and a reference's.

    Attributes:
        n: Number of instructions that both have.
        exact: Number of these whose outputs are equal character for character.
        stripped: Number of these whose outputs are equal up to white space around them; includes ``exact``.
        divergence: Place and 0-based first differing character of each unequal output, ascending by place.
        length_ratio: Mean length of the outputs divided by the reference's mean length.
        still_apply: Published judgments that still apply: the output is exact, and the record has a judgment.
        record: Judgments in the record; without annotations, the instructions of the reference.
    """

    n: int
    exact: int
    stripped: int
    divergence: tuple[tuple[int, int], ...]
    length_ratio: float
    still_apply: int
    record: int

    @property
    def median_divergence(self) -> float | None:
        """Median of the first differing characters; ``None`` if no outputs differ."""
        return statistics.median(at for _, at in self.divergence) if self.divergence else None

    def __str__(self) -> str:
        median = self.median_divergence
        parted = "" if median is None else f"; the others first differ at character {median:.0f} (median)"
        return (
            f"{self.exact} of {self.n} outputs are equal in every character ({self.stripped} up to white space){parted}; "
            f"length ratio {self.length_ratio:.3f}; {self.still_apply} of {self.record} published judgments still apply"
        )


def first_difference(left: str, right: str) -> int | None:
    """Returns the 0-based first differing character of two texts (for a prefix, its length); ``None`` if they are equal."""
    if left == right:
        return None
    return next((at for at, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))


def compare_outputs(mine: Outputs, reference: Outputs | Annotations) -> OutputComparison:
    """Compares outputs with a published model's outputs or annotations.

    Raises:
        UserError: If both have no instruction in common.
    """
    if isinstance(reference, Annotations):
        published: Mapping[int, str] = {row.place: row.output for row in reference.rows}
        judged = {row.place for row in reference.rows if row.preference is not None}
    else:
        published = reference.by_place
        judged = set(published)
    places = sorted(set(mine.by_place) & set(published))
    if not places:
        raise UserError(f"the two files have none of AlpacaEval's {SIZE} instructions in common")
    own = mine.by_place
    parted = [(place, first_difference(own[place], published[place])) for place in places]
    exact = {place for place, at in parted if at is None}
    reference_length = sum(len(published[place]) for place in places)
    return OutputComparison(
        n=len(places),
        exact=len(exact),
        stripped=sum(own[place].strip() == published[place].strip() for place in places),
        divergence=tuple((place, at) for place, at in parted if at is not None),
        length_ratio=sum(len(own[place]) for place in places) / max(1, reference_length),
        still_apply=len(exact & judged),
        record=len(judged),
    )
