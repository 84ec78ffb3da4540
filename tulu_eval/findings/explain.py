"""Which setting explains the gap between two numbers: tries one after the other, and says what each does.

The base is a recipe whose settings are known; the goal is the number that it should have given. Free changes are made on the
samples that are there, paid ones on as few generated items as tell enough; all of it stays in the ledgers, where ``run`` finds
it. Nothing that an imported run's manifest says of its settings is believed.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tulu_eval.findings.explain_evidence import ALPHA, Evidence, Frame, Trial, weigh
from tulu_eval.findings.explain_record import Explanation, NotTried, Tried, Wishes
from tulu_eval.findings.explain_search import LOOKS, SURE, Lab, Spending, none_fits, search, shares
from tulu_eval.findings.explain_sides import Base, Goal
from tulu_eval.findings.explain_trials import Trials, free_on, free_trials, make_trials, pairs_of, value_before
from tulu_eval.findings.explain_verdicts import REST, ExplainVerdict, Gap, explains, gap_of, verdict_of
from tulu_eval.findings.explain_words import next_step, sentence
from tulu_eval.registry import Suite
from tulu_eval.runs.progress import Progress
from tulu_eval.store.sample_line import Sample

SEED = 0
"""Seed of the order in which items are seen."""

PAIRED = 4
"""Paid changes of which all pairs are tried where no single one suffices: those that fit best."""

BUDGET = 0.25
"""Default budget, as a share of generating every paid change on all items."""

ALIKE = 0.8
"""Share of flipped items that two changes have in common (Jaccard index) to be called correlated; they flip 3 or more."""

SINGLE = 0.6
"""Share of the budget for single changes, the rest being for two at once; of a bare number, which too many pairs fit, all."""

BY_CHANCE = "it would do, but of so many changes one often gives a bare number by chance; texts would decide it"
"""Reason where a bare number fits a change no better than a cause that is in no list would explain it."""

RIVAL = 0.05
"""Weight, relative to the best, from which a change that explains the gap too is a rival."""


def explain(base: Base, goal: Goal, suite: Suite, progress: Progress, wishes: Wishes) -> Explanation:
    """Returns which settings of the base, changed, give the goal.

    Raises:
        InterruptedRunError: If somebody presses Ctrl-C; what was generated is kept.
    """
    order = list(goal.items)
    random.Random(SEED).shuffle(order)  # noqa: S311 - a draw of items, not a secret
    there: dict[str, Sample] = {}
    spending = Spending(0, wishes.max_seconds, wishes.tariff)
    lab = Lab(progress, spending)
    if base.plan is not None:
        there = lab.samples_of(base.plan)
    there.update(base.samples)
    frame = Frame(goal, tuple(order), Trial((), base.plan, base.rule, there), base.flip_rate)
    missing = sum(item not in there for item in order)
    if not missing and (gap := gap_of(frame)) is not None and gap.noise:  # seconds before any plan is made
        return Inquiry(base, frame, Trials(free_trials(base, goal, there), [], []), suite).report(gap, spending, everything=0)
    trials = make_trials(base, goal, there, suite, lab.samples_of)
    everything = len(trials.paid) * frame.n
    spending.items = math.ceil(BUDGET * everything) + missing if wishes.max_items is None else wishes.max_items
    inquiry = Inquiry(base, frame, trials, suite)
    with lab:
        lab.serve([plan for one in (frame.base, *trials.paid) if (plan := one.plan) is not None])
        if wishes.generate and missing and base.plan is not None:
            lab.get(base.plan, order)
        gap = gap_of(frame)
        if gap is not None and not gap.noise:
            if trials.free:
                progress.say(f"{len(trials.free)} settings that the {frame.n} samples show by themselves")
            inquiry.conduct(gap, lab if wishes.generate else None)
    return inquiry.report(gap, spending, everything)


class Inquiry:
    """Tries changes of a base until the gap is explained, and reports what each does.

    Args:
        base: The base.
        frame: What all trials are measured against.
        trials: The single trials.
        suite: The registry.
    """

    def __init__(self, base: Base, frame: Frame, trials: Trials, suite: Suite) -> None:
        self._base, self._frame, self._trials, self._suite = base, frame, trials, suite
        self._pairs: list[Trial] = []
        self._derived: dict[int, list[Trial]] = {}
        self._gap: Gap | None = None

    def conduct(self, gap: Gap, lab: Lab | None) -> None:
        """Tries free changes, then paid ones, then two at once where no single one suffices; ``lab`` generates, if it may."""
        self._gap = gap
        free, paid = self._trials.free, self._trials.paid
        if lab is not None and paid and not (self._frame.goal.outcomes and self._found(free)):
            search(self._frame, paid, free, self._more, lab, self._found, self._for_singles(lab))
        if self._found([*free, *paid]):
            return
        self._pairs = [pair for one in free if one.rule is not self._frame.base.rule for pair in self._more(one)]
        self._pairs = list({frozenset(pair.name): pair for pair in self._pairs}.values())
        self._pairs += [pair for one in paid for pair in self._more(one)]
        if lab is None or self._found([*free, *paid, *self._pairs]):
            return
        two = pairs_of(self._base, self._promising(), self._suite, lab.samples_of)
        if two:
            lab.serve([pair.plan for pair in two if pair.plan is not None])
            search(self._frame, two, [*free, *paid, *self._pairs], self._more, lab, self._found, lab.spending.items)
            self._pairs += [*two, *(each for pair in two for each in self._more(pair))]

    def _for_singles(self, lab: Lab) -> int:
        """Returns the samples that may have been spent before two changes are tried at once."""
        spending = lab.spending
        alone = SINGLE if self._frame.goal.outcomes is not None else 1.0
        return spending.spent + round(alone * (spending.items - spending.spent))

    def _more(self, trial: Trial) -> list[Trial]:
        """Returns the free changes of a trial's samples; the same objects each time."""
        if id(trial) not in self._derived:
            self._derived[id(trial)] = free_on(trial, self._trials.free, self._frame.goal)
        return self._derived[id(trial)]

    def _promising(self) -> list[Trial]:
        """Returns the paid changes that fit best, as long as they fit better than the base itself does."""
        own = weigh(self._frame, dataclasses.replace(self._frame.base, _known={}))
        floor = own.fit if own is not None else -math.inf
        found = [(one, known.fit) for one in self._trials.paid if (known := weigh(self._frame, one)) is not None]
        found = [(one, fit) for one, fit in found if self._frame.goal.outcomes is None or fit > floor]
        return [one for one, _ in sorted(found, key=lambda pair: -pair[1])[:PAIRED]]

    def _alpha(self, trial: Trial) -> float:
        """Returns the error rate of a trial's interval: all together have :data:`ALPHA`, single ones half of it."""
        singles = len(self._trials.free) + len(self._trials.paid)
        if len(trial.hypotheses) == 1:
            return ALPHA / 2 / max(singles, 1)
        return ALPHA / 2 / max(len(self._trials.free) * singles + PAIRED * PAIRED, 1)

    def _found(self, trials: Sequence[Trial]) -> bool:
        """Whether one of the trials explains the gap, and fits so well that nothing more has to be generated."""
        known = {index: found for index, one in enumerate(trials) if (found := weigh(self._frame, one)) is not None}
        if not known or self._gap is None:
            return False
        weights = shares([*(one.fit for one in known.values()), none_fits(self._frame)])
        best, weight = max(zip(known, weights, strict=False), key=lambda pair: pair[1])
        found = weigh(self._frame, trials[best], self._alpha(trials[best]))
        rivals = math.fsum(
            other for index, other in zip(known, weights, strict=False)
            if index != best and not self._includes(trials[index], trials[best])
        )  # fmt: skip
        sure = weight >= SURE * (weight + rivals + weights[-1])
        return sure and found is not None and explains(self._frame, trials[best], found, self._gap)

    def _includes(self, pair: Trial, single: Trial) -> bool:
        """Whether a pair is a single change and one that changes nothing beside it, on all items seen."""
        if len(pair.hypotheses) <= len(single.hypotheses) or not set(single.name) <= set(pair.name):
            return False
        both = [(pair.outcome(item), single.outcome(item)) for item in self._frame.order]
        return all(one == other for one, other in both if one is not None and other is not None)

    def report(self, gap: Gap | None, spending: Spending, everything: int) -> Explanation:
        """Returns what was found."""
        trials = [*self._trials.free, *self._trials.paid, *self._pairs]
        judged = {id(one): self._judge(one, gap) for one in trials}
        named, rivals = self._name(trials, judged, gap)
        shown = [one for one in trials if len(one.hypotheses) == 1 or one in named or one in rivals]
        if gap is not None and gap.noise:  # nothing is explained, but what samples show by themselves is shown
            shown = [one for one in shown if judged[id(one)] is not None]
        rows = [self._row(one, judged, named, rivals) for one in shown]
        rows = _with_alike(rows, shown, judged)
        rows.sort(key=lambda row: (row.names != (named[0].name if named else ()), -abs(row.effect or 0.0)))
        found = Explanation(
            sentence="",
            base=self._base.words,
            goal=self._frame.goal.words,
            gap=gap,
            n=self._frame.n,
            chance=100 * self._frame.chance(self._frame.base),
            named=named[0].name if named else (),
            rivals=tuple(one.name for one in rivals),
            tried=tuple(rows),
            untried=tuple(
                NotTried(one.hypothesis.name, one.hypothesis.setting, one.hypothesis.to, one.reason)
                for one in self._trials.untried
            )
            + tuple(
                NotTried(one.name[0], one.hypotheses[0].setting, one.hypotheses[0].to, one.failed)
                for one in self._trials.paid
                if one.failed
            ),
            generated=spending.spent,
            budget=spending.items,
            dollars=None if spending.tariff is None else spending.dollars,
            everything=everything,
            short=spending.short,
            seconds=spending.elapsed,
            next_step="",
        )
        return dataclasses.replace(found, sentence=sentence(found), next_step=next_step(found))

    def _judge(self, trial: Trial, gap: Gap | None) -> JudgedTrial | None:
        """Returns evidence, verdict on the change alone, and reason; ``None`` if nothing is known."""
        known = None if gap is None else weigh(self._frame, trial, self._alpha(trial))
        if gap is None or known is None:
            return None
        if gap.noise:
            return JudgedTrial(known, "cannot tell", "the gap itself is no more than chance gives")
        verdict, reason = verdict_of(self._frame, trial, known, gap, self._alpha(trial) / LOOKS)
        return JudgedTrial(known, verdict, reason)

    def _name(
        self, trials: Sequence[Trial], judged: Mapping[int, JudgedTrial | None], gap: Gap | None
    ) -> tuple[list[Trial], list[Trial]]:
        """Returns the change that explains the gap, if one does and no other fits about as well, and else those that do."""
        known = {id(one): found for one in trials if (found := judged[id(one)]) is not None}
        if gap is None or not known:
            return [], []
        for size in sorted({len(one.hypotheses) for one in trials}):  # two at once only where no single one suffices
            able = [one for one in trials if len(one.hypotheses) <= size and id(one) in known]
            good = [one for one in able if known[id(one)].verdict == "explains it" and len(one.hypotheses) == size]
            if not good:
                continue
            good.sort(key=lambda one: -known[id(one)].evidence.fit)
            best = good[0]
            least = known[id(best)].evidence.fit + math.log(RIVAL)
            rivals = [one for one in able if one is not best and known[id(one)].evidence.fit >= least]
            rivals = [one for one in rivals if known[id(one)].verdict in ("explains it", "cannot tell")]
            rivals = [one for one in rivals if not self._includes(one, best)]
            coincidence = self._frame.goal.outcomes is None and none_fits(self._frame) >= least
            return ([], [best, *rivals]) if rivals or coincidence else ([best], [])
        return [], []

    def _row(
        self, trial: Trial, judged: Mapping[int, JudgedTrial | None], named: Sequence[Trial], rivals: Sequence[Trial]
    ) -> Tried:
        found = judged[id(trial)]
        verdict: ExplainVerdict = found.verdict if found else "cannot tell"
        reason = found.reason if found else "not looked at"
        if trial in rivals:
            others = " or ".join(_called(one) for one in rivals if one is not trial)
            verdict, reason = "cannot tell", f"fits about as well as {others}" if others else BY_CHANCE
        elif verdict in ("explains it", "contributes") and named and not set(trial.name) <= set(named[0].name):
            within = max(self._frame.chance(trial), REST * abs(self._gap.size if self._gap else 0.0))
            verdict, reason = _beside(_called(named[0]), found, within)
        elif verdict == "explains it" and trial not in named:
            verdict, reason = "cannot tell", "it would do, and another fits better"
        known = found.evidence if found else None

        def points(value: float | None) -> float | None:
            return None if value is None else 100 * value

        before = [value_before(one, self._base) for one in trial.hypotheses]
        changes = [f"{one.setting}: {one.to} instead of {was}" for one, was in zip(trial.hypotheses, before, strict=True)]
        return Tried(
            names=trial.name,
            setting=" and ".join(one.setting for one in trial.hypotheses),
            was="; ".join(before),
            to="; ".join(one.to for one in trial.hypotheses),
            change=", and ".join(changes),
            source="; ".join(one.source for one in trial.hypotheses),
            paid=trial.plan is not None,
            items=known.seen if known else 0,
            n=self._frame.n,
            effect=points(known.effect) if known else None,
            low=points(known.interval.low) if known else None,
            high=points(known.interval.high) if known else None,
            left=points(known.left) if known else None,
            left_low=points(known.left_interval.low) if known else None,
            left_high=points(known.left_interval.high) if known else None,
            same_text=known.same_text if known else None,
            fit=known.fit if known else None,
            verdict=verdict,
            reason=reason,
        )


class JudgedTrial(NamedTuple):
    """A trial's evidence with the verdict on it alone."""

    evidence: Evidence
    verdict: ExplainVerdict
    reason: str


def _beside(named: str, found: JudgedTrial | None, within: float) -> tuple[ExplainVerdict, str]:
    """Returns the verdict on a change that has an effect where another explains the gap; ``within`` is what may be left."""
    evidence = found.evidence if found else None
    if evidence is not None and evidence.astray:
        return "ruled out", f"{named} explains the gap, and this gives other answers than the goal has"
    if evidence is not None and (evidence.left_interval.high < -within or evidence.left_interval.low > within):
        return "ruled out", f"{named} explains the gap, and this alone leaves {100 * evidence.left:+.1f} points"
    return "cannot tell", f"it has an effect, too, and {named} explains the gap better"


def _called(trial: Trial) -> str:
    return "+".join(trial.name)


def _with_alike(rows: Sequence[Tried], trials: Sequence[Trial], judged: Mapping[int, JudgedTrial | None]) -> list[Tried]:
    """Returns rows with the names of changes that flip the same items."""
    flips = [found.evidence.flipped if (found := judged[id(one)]) else frozenset() for one in trials]
    alike: dict[int, list[str]] = {index: [] for index in range(len(rows))}
    for one, other in itertools.combinations(range(len(rows)), 2):
        common, either = len(flips[one] & flips[other]), len(flips[one] | flips[other])
        single = len(rows[one].names) == len(rows[other].names) == 1
        if single and common >= 3 and common >= ALIKE * either:
            alike[one].append(rows[other].names[0])
            alike[other].append(rows[one].names[0])
    return [dataclasses.replace(row, alike=tuple(alike[index])) for index, row in enumerate(rows)]
