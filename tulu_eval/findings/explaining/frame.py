"""One change of settings with the samples that show it, and what all changes are measured against.

Two greedy runs of one recipe flip items, too. :func:`beyond_chance` says how large a net change is more than such flips give;
what is not is no effect.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence

from tulu_eval.benchmarks.hypothesis import Hypothesis, OtherCount, OtherDecoding, OtherItems, Shortest
from tulu_eval.findings.claims import Claim
from tulu_eval.findings.explaining.base_and_goal import Goal
from tulu_eval.findings.explaining.scoring_rule import Rule, RuleOutcome
from tulu_eval.runs.run_plan import Plan
from tulu_eval.stats.intervals import z_value
from tulu_eval.stats.paired import net_flips
from tulu_eval.store.sample_line import Sample

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
    _alike: dict[str, float] = dataclasses.field(default_factory=dict)

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

    def alike(self, item: str, text: str) -> float | None:
        """Returns how alike an item's text and the goal's are, as :func:`likeness` has it; ``None`` if there is no sample."""
        if item not in self._alike and (found := self.outcome(item)) is not None:
            self._alike[item] = likeness(found.text, text)
        return self._alike.get(item)

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


def likeness(text: str, other: str) -> float:
    """Returns the length of what two texts begin with, as a share (0 to 1) of the longer one; 1 if they are equal.

    Greedy answers under one recipe are equal, or part at one near tie of two tokens and have nothing to do with each other from
    there on (README.md, batch sizes). White space at the ends does not count, since exchange formats drop it.
    """
    text, other = text.strip(), other.strip()
    return 1.0 if text == other else _common(text, other) / max(len(text), len(other))


def _common(text: str, other: str) -> int:
    """Returns the number of characters that two texts begin with alike."""
    return next((at for at, (one, two) in enumerate(zip(text, other, strict=False)) if one != two), min(len(text), len(other)))


@dataclasses.dataclass(frozen=True)
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

    @functools.cached_property
    def distance(self) -> float | None:
        """The mean, over all items, of the goal's score minus the base's; ``None`` if one is not known."""
        outcomes = self.goal.outcomes
        pairs = [] if outcomes is None else [(outcomes[item], self.base.outcome(item)) for item in self.order]
        known = [(theirs.score, own.score) for theirs, own in pairs if own is not None]
        differences = [theirs - own for theirs, own in known if theirs is not None and own is not None]
        return math.fsum(differences) / self.n if len(differences) == self.n else None

    @functools.cached_property
    def equal_texts(self) -> float:
        """The share of the base's texts that are the goal's; half an item more and less, so that it is neither 0 nor 1."""
        outcomes = self.goal.outcomes or {}
        same = sum(self.base.alike(item, one.text) == 1.0 for item, one in outcomes.items())
        return (same + 0.5) / (len(outcomes) + 1)

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
