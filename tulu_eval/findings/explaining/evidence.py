"""What samples say of one change of settings: its paired effect, what it leaves of the gap, and how well it fits the goal.

An effect is the mean, over the goal's n items, of the score under the change minus the base's. The items are seen in one
random order, so the items seen are a sample without replacement of the n, and an interval that may be looked at after every
item (:mod:`tulu_eval.stats.without_replacement`) shrinks to the mean itself when all are seen. Free changes of a whole run are
exact.

Where the goal has texts, its scores are known on all items, and so is its distance from the base: the effect is that distance
less what the change leaves of it. If the change gives the goal's own scores, what is left varies far less than the effect
does, so both ways have half of the error rate, and the interval is what they have in common (a difference estimator: Cochran
1977, 7.1). The texts themselves are compared item by item, too: those under a cause are more like the goal's than the base's
are.

How well a change fits decides where items are spent next and which of two changes is named. It decides no error rate: a change
is named only if its intervals say so.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from tulu_eval.findings.explaining.fit import count_fit, scores_fit, texts_fit
from tulu_eval.findings.explaining.frame import Frame, Trial
from tulu_eval.stats import Interval
from tulu_eval.stats.without_replacement import mean_without_replacement

ALPHA = 0.01
"""Familywise error rate of all intervals of effects together; half of it is for single changes, half for pairs."""


@dataclasses.dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a trial; differences are fractions of 1.

    Attributes:
        seen: Items with both scores.
        effect: Mean paired difference over the items seen; for a change of which items count, the difference of the numbers.
        interval: Its interval over all of the goal's items.
        left: Goal minus the number under the change.
        left_interval: Its interval.
        same_text: Number of the items seen whose text is the goal's; ``None`` if the goal has no texts.
        closer: Interval, over all items, of how much more alike the goal's texts are to those under the change than to the
            base's (-1 to 1); from -1 to 1 where the effect is not beyond 0, and ``None`` if the goal has no texts.
        lead: Its mean over the items seen; 0 if the goal has no texts.
        fit: Natural logarithm of how well the change fits, with its prior weight.
        flipped: Items whose score the change moves.
        astray: Items seen whose score is not the goal's; ``None`` for a bare number.
    """

    seen: int
    effect: float
    interval: Interval
    left: float
    left_interval: Interval
    same_text: int | None
    closer: Interval | None
    lead: float
    fit: float
    flipped: frozenset[str]
    astray: int | None


def weigh(frame: Frame, trial: Trial, alpha: float | None = None) -> Evidence | None:
    """Returns what is known of a trial; ``None`` if nothing is.

    ``alpha`` is the error rate of each interval; ``None`` for intervals that say nothing, where only the fit is asked for.
    """
    if trial.as_a_whole:
        return _whole(frame, trial)
    seen: list[str] = []
    for item in frame.order:
        found, own = trial.outcome(item), frame.base.outcome(item)
        if found is None or own is None:
            break  # what lies behind a gap is no random sample
        if found.score is not None and own.score is not None:
            seen.append(item)
    if not seen:
        return None
    outcomes = [trial.outcome(item) for item in seen]
    scores = [one.score for one in outcomes if one is not None and one.score is not None]
    differences = [score - _score(frame.base, item) for score, item in zip(scores, seen, strict=True)]
    flipped = frozenset(item for item, one in zip(seen, differences, strict=True) if one)
    goal = frame.goal.outcomes
    if goal is None:
        effect = math.fsum(differences) / len(seen)
        interval = _interval(differences, frame.n, alpha)
        left, left_interval = _left_of_claim(frame, effect, interval)
        fitted = _fit_claim(frame, trial, differences)
        return Evidence(len(seen), effect, interval, left, left_interval, None, None, 0.0, fitted, flipped, None)
    gaps = [(goal[item].score or 0.0) - score for item, score in zip(seen, scores, strict=True)]
    effect, interval, left, left_interval = _of_texts(frame, differences, gaps, alpha)
    before = [frame.base.alike(item, goal[item].text) or 0.0 for item in seen]
    alike = [trial.alike(item, goal[item].text) or 0.0 for item in seen]
    same, astray = sum(one == 1.0 for one in alike), sum(1 for gap in gaps if gap)
    leads = [one - other for one, other in zip(alike, before, strict=True)]
    fitted = math.log(trial.weight) + scores_fit(len(seen), astray, frame.rate(trial))
    fitted += 0.0 if trial.drawn else texts_fit(len(alike), same, frame.equal_texts)
    closer = _interval(leads, frame.n, alpha if interval.low > 0 or interval.high < 0 else None)  # else it decides nothing
    return Evidence(
        len(seen), effect, interval, left, left_interval, same, closer, math.fsum(leads) / len(leads), fitted, flipped, astray
    )


def _of_texts(
    frame: Frame, differences: Sequence[float], gaps: Sequence[float], alpha: float | None
) -> tuple[float, Interval, float, Interval]:
    """Returns effect and what is left with their intervals, from differences from the base and from the goal."""
    half = None if alpha is None else alpha / 2
    direct, rest = _interval(differences, frame.n, half), _interval(gaps, frame.n, half)
    left = math.fsum(gaps) / len(gaps)
    if frame.distance is None or len(gaps) == frame.n:
        return math.fsum(differences) / len(differences), direct, left, rest
    low, high = max(direct.low, frame.distance - rest.high), min(direct.high, frame.distance - rest.low)
    return frame.distance - left, Interval(low, high), left, Interval(frame.distance - high, frame.distance - low)


def nearer(frame: Frame, trial: Trial, other: Trial, alpha: float) -> Interval | None:
    """Returns the interval of how much more alike the goal's texts are to a trial's than to another's, on items seen of both.

    ``None`` if none are, or the goal has no texts.
    """
    leads = []
    for item in frame.order if frame.goal.outcomes is not None else ():
        text = frame.goal.outcomes[item].text if frame.goal.outcomes else ""
        own, theirs = trial.alike(item, text), other.alike(item, text)
        if own is None or theirs is None:
            break
        leads.append(own - theirs)
    return mean_without_replacement(leads, frame.n, alpha) if leads else None


def _interval(differences: Sequence[float], n: int, alpha: float | None) -> Interval:
    return Interval(-1.0, 1.0) if alpha is None else mean_without_replacement(differences, n, alpha)


def _score(trial: Trial, item: str) -> float:
    found = trial.outcome(item)
    return 0.0 if found is None or found.score is None else found.score


def _whole(frame: Frame, trial: Trial) -> Evidence | None:
    """Returns the evidence of a change of which items count; it is exact, and there only if all samples are."""
    claim = frame.goal.claim
    before = frame.base.number(frame.goal.items, frame.n)
    found = trial.number(frame.goal.items, claim.n) if claim is not None else None
    if claim is None or before is None or found is None:
        return None
    value, kept = found
    if kept != claim.n and not frame.goal.same_items:
        return None
    effect = value - before[0]
    distance = claim.distance(value * claim.n) / claim.n
    left = math.copysign(distance, claim.right / claim.n - value)
    fitted = math.log(trial.weight) + count_fit(value * claim.n, claim.least, claim.most, claim.n, frame.rate(trial))
    return Evidence(
        kept, effect, Interval(effect, effect), left, Interval(left, left), None, None, 0.0, fitted, frozenset(), None
    )


def _left_of_claim(frame: Frame, effect: float, interval: Interval) -> tuple[float, Interval]:
    """Returns what a change leaves of a bare number, from the base's number on all items and the change's effect."""
    claim, before = frame.goal.claim, frame.base.number(frame.goal.items, frame.n)
    if claim is None or before is None:
        return 0.0, Interval(-1.0, 1.0)

    def left(change: float) -> float:
        value = before[0] + change
        distance = claim.distance(value * claim.n) / claim.n
        return math.copysign(distance, claim.right / claim.n - value) if distance > 1e-12 else 0.0

    return left(effect), Interval(left(interval.high), left(interval.low))


def _fit_claim(frame: Frame, trial: Trial, differences: Sequence[float]) -> float:
    """Returns the fit of a bare number: its probability if the change were the cause; normal until all items are seen."""
    claim, before, m = frame.goal.claim, frame.base.number(frame.goal.items, frame.n), len(differences)
    if claim is None or before is None:
        return math.log(trial.weight)
    mean = math.fsum(differences) / m
    expected = (before[0] + mean) * claim.n
    if m == frame.n and frame.goal.same_items:
        return math.log(trial.weight) + count_fit(expected, claim.least, claim.most, claim.n, frame.rate(trial))
    mean, spread = _by_strata(frame, differences)
    expected = (before[0] + mean) * claim.n
    variance = claim.n**2 * spread / m * (1 - m / frame.n) + frame.rate(trial) * claim.n
    if not frame.goal.same_items:
        share = claim.right / claim.n
        variance += share * (1 - share) * claim.n**2 * frame.drawn(claim)
    away = claim.distance(expected)
    return math.log(trial.weight) - away * away / (2 * variance) - 0.5 * math.log(2 * math.pi * variance)


def _by_strata(frame: Frame, differences: Sequence[float]) -> tuple[float, float]:
    """Returns the estimated mean difference and its variance per item, items stratified by whether the base is right.

    Of all items it is known on which the base is right; where it is, an effect can only be a loss (Cochran 1977, 5A.9).
    """
    seen: dict[bool, list[float]] = {True: [], False: []}
    sizes = {True: 0, False: 0}
    own = [_score(frame.base, item) >= 0.5 for item in frame.order]
    for right in own:
        sizes[right] += 1
    for right, one in zip(own, differences, strict=False):
        seen[right].append(one)
    mean = spread = 0.0
    for right, found in seen.items():
        share = sizes[right] / len(own)
        average = math.fsum(found) / len(found) if found else (-0.5 if right else 0.5)
        mean += share * average
        # half an item more, so that no stratum is without error
        spread += share * (math.fsum((one - average) ** 2 for one in found) + 0.5) / max(len(found), 1)
    return mean, spread
