"""A check without a judge: a model's outputs against published ones for the same instructions.

Where an output equals the published one, character for character, the published judgment of it holds as it stands.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence

from tulu_eval.benchmarks.alpaca_set import SIZE
from tulu_eval.errors import UserError
from tulu_eval.judging.annotations import Annotations
from tulu_eval.judging.outputs import Outputs


@dataclasses.dataclass(frozen=True, slots=True)
class OutputComparison:
    """How far outputs are from a reference's.

    Attributes:
        n: Instructions that both have.
        exact: Of these, with the same output to the character.
        stripped: Of these, with the same output but for white space around it; ``exact`` included.
        divergence: For the others, the 0-based character where they part, by place; ascending by place.
        length_ratio: Mean length over the reference's mean length.
        still_apply: Published judgments that hold verbatim: exact, and judged in the record.
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
        """Median character at which differing outputs part; None where none differs."""
        return statistics.median(at for _, at in self.divergence) if self.divergence else None

    def __str__(self) -> str:
        median = self.median_divergence
        parted = "" if median is None else f"; the others part at character {median:.0f} (median)"
        return (
            f"{self.exact} of {self.n} outputs are the same to the character ({self.stripped} but for white space){parted}; "
            f"length ratio {self.length_ratio:.3f}; {self.still_apply} of {self.record} published judgments still apply"
        )


def first_difference(left: str, right: str) -> int | None:
    """Returns the 0-based character where two texts part (a prefix: its length); None if they are equal."""
    if left == right:
        return None
    return next((at for at, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))


def compare_outputs(mine: Outputs, reference: Outputs | Annotations) -> OutputComparison:
    """Compares outputs with a published model's, given as its outputs or as its annotations.

    Raises:
        UserError: They have no instruction in common.
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
    return _compare(places, mine.by_place, published, judged)


def _compare(
    places: Sequence[int], mine: Mapping[int, str], published: Mapping[int, str], judged: set[int]
) -> OutputComparison:
    parted = [(place, first_difference(mine[place], published[place])) for place in places]
    exact = {place for place, at in parted if at is None}
    reference_length = sum(len(published[place]) for place in places)
    return OutputComparison(
        n=len(places),
        exact=len(exact),
        stripped=sum(mine[place].strip() == published[place].strip() for place in places),
        divergence=tuple((place, at) for place, at in parted if at is not None),
        length_ratio=sum(len(mine[place]) for place in places) / max(1, reference_length),
        still_apply=len(exact & judged),
        record=len(judged),
    )
