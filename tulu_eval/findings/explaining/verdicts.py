"""What the evidence says of the gap and of each change of settings.

* **explains it**: the effect's interval lies beyond what chance gives, and that of what is left lies within what chance or a
  quarter of the gap gives; where the goal has texts, those under the change are more like them than the base's are, and no more
  scores are others than flips give; and no other change fits about as well.
* **contributes**: the effect's interval lies beyond what chance gives, in the gap's direction, and not beyond the gap, and the
  texts under the change are more like the goal's than the base's are, its interval too; never of a bare number, because nothing
  then ties the change to the goal. Both must hold, so the error rate is that of one of them (an intersection-union test: Berger
  1982, Technometrics 24, 295-300).
* **ruled out**: the effect's interval excludes half of the gap, or lies beyond the whole of it; or, where the goal has scores
  of its own, those under the change are others on more items than flips give.
* **cannot tell**: none of these with the items that were seen.

No verdict but "cannot tell" is given where the gap itself is no more than chance gives.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from tulu_eval.findings.explaining.evidence import Evidence
from tulu_eval.findings.explaining.frame import Frame, Trial
from tulu_eval.stats import Count, Interval, agree, mcnemar, paired_means
from tulu_eval.stats.agreement import Items
from tulu_eval.stats.binomial import at_most

ExplainVerdict = Literal["explains it", "contributes", "ruled out", "cannot tell"]

LEVEL = 0.01
"""Largest p-value at which a gap is more than chance."""

SHARE = 0.5
"""Share of the gap that a change's effect must exclude to be ruled out."""

REST = 0.25
"""Share of the gap that may be left by what explains it."""


class Gap(NamedTuple):
    """The goal's number minus the base's, as a fraction of 1.

    Attributes:
        base: The base's number on the goal's items.
        goal: The goal's; of a bare number the nearest that is printed so.
        p_value: Two-sided p-value of "chance alone".
        how: The test's name.
        n: Number of items.
    """

    base: float
    goal: float
    p_value: float
    how: str
    n: int

    @property
    def size(self) -> float:
        """Goal minus base."""
        return self.goal - self.base

    @property
    def noise(self) -> bool:
        """Whether chance alone gives such a gap."""
        return self.p_value >= LEVEL


def gap_of(frame: Frame) -> Gap | None:
    """Returns the gap; ``None`` if a sample of the base is missing."""
    goal, outcomes = frame.goal, frame.goal.outcomes
    found = frame.base.number(goal.items, frame.n)
    if found is None:
        return None
    before, n = found
    if outcomes is not None:
        pairs = [
            (theirs.score, own.score) for item in goal.items
            if (own := frame.base.outcome(item)) is not None and own.score is not None
            and (theirs := outcomes[item]).score is not None
        ]  # fmt: skip
        return _paired([(a, b) for a, b in pairs if a is not None and b is not None])
    claim = goal.claim
    if claim is None:
        return None
    right = round(before * n)
    away = claim.distance(before * claim.n)
    nearest = round(min(max(before * claim.n, claim.least), claim.most))
    if goal.same_items and n == claim.n and abs(right - before * n) < 1e-6:
        p_value, how = _flips_p(round(away), n, frame.flip_rate), "symmetric flips"
    else:
        items: Items = "superset" if goal.part else "other"
        test = agree(Count(right, n), Count(nearest, claim.n), items=items, same_weights=goal.part)
        p_value, how = (1.0 if away == 0 else test.p_value), test.method
    return Gap(before, nearest / claim.n, p_value, how, n)


def _paired(pairs: list[tuple[float, float]]) -> Gap:
    n = len(pairs)
    goal, base = math.fsum(a for a, _ in pairs) / n, math.fsum(b for _, b in pairs) / n
    if all(score in (0.0, 1.0) for pair in pairs for score in pair):
        p_value = mcnemar(sum(1 for a, b in pairs if a > b), sum(1 for a, b in pairs if b > a))
        return Gap(base, goal, p_value, "exact McNemar", n)
    return Gap(base, goal, paired_means([a - b for a, b in pairs]).p_value, "paired t-test", n)


def _flips_p(away: int, n: int, rate: float) -> float:
    return 1.0 if away == 0 else agree(Count(away, n), Count(0, n), items="same", same_weights=True, flip_rate=rate).p_value


def told_gap(gap: Gap, rest: float, flip_rate: float) -> Gap:
    """Returns the gap to a number that was told of texts and is off by ``rest`` (0 to 1) from theirs, by flips alone."""
    whole = gap._replace(goal=gap.goal + rest)
    return whole._replace(p_value=_flips_p(round(abs(whole.size) * gap.n), gap.n, flip_rate), how="symmetric flips")


def explains(frame: Frame, trial: Trial, evidence: Evidence, gap: Gap) -> bool:
    """Whether a change's effect is beyond chance, and what is left is within it, or within a quarter of the gap."""
    chance = frame.chance(trial)
    within = max(chance, REST * abs(gap.size))
    if not agrees(evidence):
        return False
    beyond = toward(evidence.interval, gap).low > chance
    if evidence.astray is not None and too_far(evidence, frame.rate(trial), LEVEL):
        return False
    return beyond and -within <= evidence.left_interval.low and evidence.left_interval.high <= within


def agrees(evidence: Evidence) -> bool:
    """Whether the texts under a change are more like the goal's than the base's are; true where there are none."""
    return evidence.closer is None or evidence.closer.low > 0


def toward(interval: Interval, gap: Gap) -> Interval:
    """Returns an interval turned so that the gap's direction is up."""
    return interval if gap.size > 0 else Interval(-interval.high, -interval.low)


def verdict_of(frame: Frame, trial: Trial, evidence: Evidence, gap: Gap, astray_alpha: float) -> tuple[ExplainVerdict, str]:
    """Returns the verdict on one change alone, with its reason in words; ``explains`` is for the caller to confirm.

    ``astray_alpha`` is the error rate of ruling a change out by the goal's own scores.
    """
    chance, size = frame.chance(trial), abs(gap.size)
    low, high = toward(evidence.interval, gap)
    if explains(frame, trial, evidence, gap):
        return "explains it", f"what is left is within {100 * max(chance, REST * size):.1f} points"
    if low > size + max(chance, REST * size):
        return "ruled out", f"alone it would move the number by {100 * low:.1f} points or more, further than the gap"
    if low > chance and frame.goal.outcomes is None:
        return "cannot tell", "it moves the number towards the goal, and a bare number does not show whether the goal has it"
    if low > chance and not agrees(evidence):
        return "cannot tell", "it moves the number towards the goal, but its texts are not shown to be nearer to the goal's"
    if low > chance:
        return "contributes", f"its effect is beyond the {100 * chance:.1f} points that chance gives, and its texts are nearer"
    if high < SHARE * size:
        return "ruled out", f"its effect is below {100 * SHARE:.0f} % of the gap"
    if evidence.astray is not None and too_far(evidence, frame.rate(trial), astray_alpha):
        return "ruled out", f"as the only cause: {evidence.astray} of {evidence.seen} items have other scores than the goal's"
    return "cannot tell", f"seen on {evidence.seen} of {frame.n} items"


def too_far(evidence: Evidence, rate: float, alpha: float) -> bool:
    """Whether flips alone rarely give as many items with other scores than the goal's."""
    import numpy as np

    if evidence.astray is None:
        return False
    fewer = at_most(np.array([evidence.astray - 1]), np.array([evidence.seen]), rate)
    return bool(1.0 - fewer[0] < alpha)
