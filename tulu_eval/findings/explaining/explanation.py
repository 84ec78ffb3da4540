"""What ``explain`` returns."""

from __future__ import annotations

import dataclasses

from tulu_eval.findings.explaining.tariff import Tariff
from tulu_eval.findings.explaining.verdicts import ExplainVerdict, Gap


@dataclasses.dataclass(frozen=True, slots=True)
class Wishes:
    """How much may be generated.

    Attributes:
        max_items: Samples; ``None`` for a quarter of what trying everything on all items needs.
        max_seconds: ``None`` for any.
        tariff: A server's price with the dollars that may be spent; ``None`` for any.
        generate: Whether to generate at all; else the hypotheses are listed with their cost.
    """

    max_items: int | None = None
    max_seconds: float | None = None
    tariff: Tariff | None = None
    generate: bool = True


@dataclasses.dataclass(frozen=True, slots=True)
class Tried:
    """One change of settings, or several at once, and what it does. Effects are in percentage points.

    Attributes:
        names: Names of the hypotheses.
        setting: The settings in words.
        was: Their values in the base.
        to: Their other values.
        change: The change in words: settings, other values, values in the base.
        source: Where that happened.
        paid: Whether samples are generated for it.
        items: Items seen; 0 if none.
        n: Items of the goal.
        effect: Number under the change minus the base's, paired; ``None`` if nothing is known.
        low: Lower end of the effect's interval, at any number of items.
        high: Upper end.
        left: Goal minus the number under the change, on the items seen.
        left_low: Lower end of its interval.
        left_high: Upper end.
        same_text: Items seen whose text is the goal's; ``None`` if the goal has no texts.
        fit: How well it fits the goal with its prior weight, as a natural logarithm; to be compared within one table alone.
        reason: Reason of the verdict in words.
        alike: Names of other changes that flip the same items.
    """

    names: tuple[str, ...]
    setting: str
    was: str
    to: str
    change: str
    source: str
    paid: bool = False
    items: int = 0
    n: int = 0
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    left: float | None = None
    left_low: float | None = None
    left_high: float | None = None
    same_text: int | None = None
    fit: float | None = None
    verdict: ExplainVerdict = "cannot tell"
    reason: str = "not looked at"
    alike: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class NotTried:
    """A change that cannot be tried here."""

    name: str
    setting: str
    to: str
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class Explanation:
    """The result of :func:`explain`.

    Attributes:
        sentence: The answer in plain words.
        base: What was changed.
        goal: What it should have given.
        gap: The gap; ``None`` if samples of the base are missing.
        n: Items of the goal.
        chance: Largest net change in points that flips give.
        named: Names of the changes that explain it, one by one or together; empty if none does.
        scored: Those of them that say how the goal's texts were scored, told by the number beside them.
        rivals: Changes that fit about as well, if it cannot be told which of them it is.
        tried: What was tried, the largest effect first.
        untried: What cannot be tried here.
        generated: Samples that were generated.
        budget: Samples that might have been.
        dollars: The most that these cost; ``None`` where nobody asked.
        everything: Samples that trying every paid change on all items would need.
        short: Whether the budget ended the search.
        seconds: Seconds that it took.
        next_step: What to do next, one line; may be empty.
    """

    sentence: str
    base: str
    goal: str
    gap: Gap | None
    n: int
    chance: float
    named: tuple[str, ...]
    rivals: tuple[tuple[str, ...], ...]
    tried: tuple[Tried, ...]
    untried: tuple[NotTried, ...]
    generated: int
    budget: int
    dollars: float | None
    everything: int
    short: bool
    seconds: float
    next_step: str
    scored: tuple[str, ...] = ()

    @property
    def steps(self) -> tuple[tuple[str, float], ...]:
        """The way from the base's number to the goal's: each change that was found with its effect in points, then the rest.

        Effects of several changes need not add up; what they leave out or count twice is in the rest.
        """
        if self.gap is None:
            return ()
        asked = tuple(name for name in self.named if name not in self.scored)
        apart = (asked, self.scored) if asked and self.scored else (self.named,)
        found = [row for names in apart for row in self.tried if row.names == names and names] or [
            row for row in self.tried if row.verdict == "contributes" and len(row.names) == 1
        ]
        parts = [(f"{row.setting}: {row.to}", row.effect or 0.0) for row in found]
        return (*parts, ("not explained", 100 * self.gap.size - sum(effect for _, effect in parts)))

    @property
    def noise(self) -> bool:
        """Whether there is nothing to explain."""
        return self.gap is not None and self.gap.noise
