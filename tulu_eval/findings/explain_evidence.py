"""What samples say of one change of settings: its paired effect, what it leaves of the gap, and how well it fits the goal.

An effect is the mean, over the goal's n items, of the score under the change minus the base's. The items are seen in one
random order, so the items seen are a sample without replacement of the n, and an interval that may be looked at after every
item (:mod:`tulu_eval.stats.without_replacement`) shrinks to the mean itself when all are seen. Free changes of a whole run are
exact.

Two greedy runs of one recipe flip items, too. :func:`beyond_chance` says how large a net change is more than such flips give;
what is not is no effect.

How well a change fits (:func:`fit`) decides where items are spent next and which of two changes is named. It decides no error
rate: a change is named only if its intervals say so.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from tulu_eval.benchmarks.hypothesis import Hypothesis, OtherCount, OtherDecoding, OtherItems, Shortest
from tulu_eval.findings.claims import Claim
from tulu_eval.findings.explain_fit import count_fit, scores_fit, texts_fit
from tulu_eval.findings.explain_rules import Rule, RuleOutcome
from tulu_eval.findings.explain_sides import Goal
from tulu_eval.runs.run_plan import Plan
from tulu_eval.stats import Interval
from tulu_eval.stats.intervals import z_value
from tulu_eval.stats.paired import net_flips
from tulu_eval.stats.without_replacement import mean_without_replacement
from tulu_eval.store.sample_line import Sample

ALPHA = 0.01
"""Familywise error rate of all intervals of effects together; half of it is for single changes, half for pairs."""

FLIPS_LEVEL = 0.01
"""Probability with which flips alone may give a net change that counts as more than flips."""

SAMPLED_FLIPS = 0.2
"""Share of items that may flip between two runs that draw answers. An item that is right with probability p flips with
2 p (1 - p); 0.2 is that of items that are right, or wrong, nine times in ten. An allowance, not a measurement."""


@dataclasses.dataclass(slots=True)
class Trial:
    """One change, or several at once, with the samples that show it.

    Attributes:
        hypotheses: What is changed.
        plan: Plan that generates the samples; ``None`` if they are the base's own.
        rule: How samples become scores.
        samples: Samples that are there, by item; trials of one plan share them.
        cost: Seconds of one item relative to the base's; 0 if free.
        failed: Why it could not be tried further; empty for none.
    """

    hypotheses: tuple[Hypothesis, ...]
    plan: Plan | None
    rule: Rule
    samples: Mapping[str, Sample]
    cost: float = 0.0
    failed: str = ""
    _known: dict[str, RuleOutcome] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> tuple[str, ...]:
        """Names of its hypotheses."""
        return tuple(one.name for one in self.hypotheses)

    @property
    def weight(self) -> float:
        """Prior weight: the product of those of its hypotheses, a second one being as rare as one in twenty."""
        return math.prod(one.weight for one in self.hypotheses) * 0.05 ** (len(self.hypotheses) - 1)

    @property
    def drawn(self) -> bool:
        """Whether answers are drawn, so that two runs of it differ by more than flips."""
        return any(isinstance(one.change, OtherDecoding) and one.change.temperature for one in self.hypotheses)

    @property
    def as_a_whole(self) -> bool:
        """Whether it changes which items count, so that its number is no mean of paired differences."""
        leaves = [one.change for one in self.hypotheses]
        return any(
            isinstance(one, OtherItems | Shortest) or (isinstance(one, OtherCount) and one.how == "left out") for one in leaves
        )

    def outcome(self, item: str) -> RuleOutcome | None:
        """Returns score and text of an item; ``None`` if there is no sample of it."""
        if item not in self._known and item in self.samples:
            self._known[item] = self.rule.outcome(self.samples[item])
        return self._known.get(item)

    def number(self, order: Sequence[str], n: int) -> tuple[float, int] | None:
        """Returns the number (0 to 1) that such a run of n items has, and its items; ``None`` if a sample is missing.

        ``order`` are all items in the protocol's order.
        """
        if any(item not in self.samples for item in order):
            return None
        chosen: Sequence[str] | None = order
        for one in self.hypotheses:
            if isinstance(one.change, OtherItems) and chosen is not None:
                chosen = one.change.choose(tuple(chosen), n)
            elif isinstance(one.change, Shortest) and chosen is not None:
                ended = [item for item in chosen if self.samples[item].completion.finish_reason != "error"]
                shortest = sorted(ended, key=lambda item: _length(self.samples[item]))
                chosen = shortest[:n] if n < len(ended) else None
        found = [outcome for item in chosen or () if (outcome := self.outcome(item)) is not None]
        scores = [one.score for one in found if one.score is not None]
        return (math.fsum(scores) / len(scores), len(scores)) if scores else None


def _length(sample: Sample) -> tuple[int, int]:
    return len(sample.completion.token_ids), len(sample.completion.text)


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
    fit: float
    flipped: frozenset[str]
    astray: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class Frame:
    """What all trials are measured against.

    Attributes:
        goal: The goal.
        order: The goal's items in the random order in which they are seen.
        base: The base's trial, without any change.
        flip_rate: Share of items that may flip between two runs of one recipe.
    """

    goal: Goal
    order: tuple[str, ...]
    base: Trial
    flip_rate: float

    @property
    def n(self) -> int:
        """Number of the goal's items."""
        return len(self.order)

    def rate(self, trial: Trial) -> float:
        """Returns the share of items that may flip between two runs under a trial's settings."""
        return max(self.flip_rate, SAMPLED_FLIPS) if trial.drawn else self.flip_rate

    def chance(self, trial: Trial) -> float:
        """Returns the largest net change (0 to 1) that chance gives a trial: flips, and for other items their draw."""
        flips = beyond_chance(self.n, self.rate(trial)) / self.n
        claim = self.goal.claim
        if claim is None or self.goal.same_items:
            return flips
        share = min(max(claim.right / claim.n, 0.5 / claim.n), 1 - 0.5 / claim.n)
        return math.hypot(flips, z_value(1 - FLIPS_LEVEL) * math.sqrt(share * (1 - share) * self.drawn(claim)))

    def drawn(self, claim: Claim) -> float:
        """Returns the variance that the draw of a bare number's items adds, relative to that of one item."""
        return 1 / claim.n - 1 / self.n if self.goal.part else 1 / claim.n + 1 / self.n


def beyond_chance(n: int, rate: float) -> int:
    """Returns the largest net change of n items, in items, that flips give with a probability of 1 % or more."""
    net = net_flips(n, rate)
    return next((gap for gap in range(n + 1) if 2 * float(net[n + gap + 1 :].sum()) < FLIPS_LEVEL), n)


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
    effect = math.fsum(differences) / len(seen)
    interval = _interval(differences, frame.n, alpha)
    flipped = frozenset(item for item, one in zip(seen, differences, strict=True) if one)
    goal = frame.goal.outcomes
    if goal is None:
        left, left_interval = _left_of_claim(frame, effect, interval)
        fitted = _fit_claim(frame, trial, differences)
        return Evidence(len(seen), effect, interval, left, left_interval, None, fitted, flipped, None)
    gaps = [(goal[item].score or 0.0) - score for item, score in zip(seen, scores, strict=True)]
    left = math.fsum(gaps) / len(seen)
    left_interval = _interval(gaps, frame.n, alpha)
    same = [one is not None and one.text.strip() == goal[item].text.strip() for item, one in zip(seen, outcomes, strict=True)]
    astray = sum(1 for gap in gaps if gap)
    fitted = math.log(trial.weight) + scores_fit(len(seen), astray, frame.rate(trial))
    fitted += 0.0 if trial.drawn else texts_fit(len(same), sum(same))
    return Evidence(len(seen), effect, interval, left, left_interval, sum(same), fitted, flipped, astray)


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
    return Evidence(kept, effect, Interval(effect, effect), left, Interval(left, left), None, fitted, frozenset(), None)


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
