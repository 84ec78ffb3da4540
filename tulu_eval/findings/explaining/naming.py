"""Which change is named as the cause, which could be it as well, and the rows of all that was tried."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tulu_eval.findings.explaining.base_and_goal import Base
from tulu_eval.findings.explaining.evidence import Evidence
from tulu_eval.findings.explaining.explanation import Explanation, NotTried, Tried
from tulu_eval.findings.explaining.frame import Trial
from tulu_eval.findings.explaining.inquiry import Inquiry
from tulu_eval.findings.explaining.search import LOOKS, Spending, none_fits
from tulu_eval.findings.explaining.sentences import next_step, sentence
from tulu_eval.findings.explaining.trials import scores_only, value_before
from tulu_eval.findings.explaining.verdicts import REST, ExplainVerdict, Gap, verdict_of

ALIKE = 0.8
"""Share of flipped items that two changes have in common (Jaccard index) to be called correlated; they flip 3 or more."""

BY_CHANCE = "it would do, but of so many changes one often gives a bare number by chance; texts would decide it"
"""Reason where a bare number fits a change no better than a cause that is in no list would explain it."""

RIVAL = 0.05
"""Weight, relative to the best, from which a change that explains the gap too is a rival."""

SCORED_ALIKE = "the texts of both sides are scored alike here; a number that is told beside the texts would tell how they were"
"""Reason why no scorer is the cause where texts are compared."""


class JudgedTrial(NamedTuple):
    """A trial's evidence with the verdict on it alone."""

    evidence: Evidence
    verdict: ExplainVerdict
    reason: str


Judged = Mapping[int, JudgedTrial | None]
"""What is known of each trial, by its id."""


class Names(NamedTuple):
    """What explains the gap.

    Attributes:
        named: The one change, or the one pair, that does; empty if none does or it cannot be told which.
        rivals: Changes of which it cannot be told which does.
        nearest: Where texts contribute and nothing is named, the change whose texts are nearest to the goal's.
    """

    named: tuple[Trial, ...] = ()
    rivals: tuple[Trial, ...] = ()
    nearest: Trial | None = None


def report(inquiry: Inquiry, gap: Gap | None, spending: Spending, everything: int) -> Explanation:
    """Returns what an inquiry found; ``everything`` are the samples that trying every paid change on all items needs."""
    inquiry.gap = gap
    trials = [*inquiry.trials.free, *inquiry.trials.paid, *inquiry.pairs]
    judged = {id(one): _judge(inquiry, one, gap) for one in trials}
    names = _name(inquiry, trials, judged, gap)
    shown = [one for one in trials if len(one.hypotheses) == 1 or one in names.named or one in names.rivals]
    if gap is not None and gap.noise:  # nothing is explained, but what samples show by themselves is shown
        shown = [one for one in shown if judged[id(one)] is not None]
    rows = _with_alike([_row(inquiry, one, judged, names) for one in shown], shown, judged)
    named = names.named[0].name if names.named else ()
    rows.sort(key=lambda row: (row.names != named, -abs(row.effect or 0.0)))
    failed = [one for one in inquiry.trials.paid if one.failed]
    untried = [(one.hypothesis, one.reason) for one in inquiry.trials.untried]
    untried += [(one.hypotheses[0], one.failed) for one in failed]
    found = Explanation(
        sentence="",
        base=inquiry.base.words,
        goal=inquiry.frame.goal.words,
        gap=gap,
        n=inquiry.frame.n,
        chance=100 * inquiry.frame.chance(inquiry.frame.base),
        named=named,
        rivals=tuple(one.name for one in names.rivals),
        tried=tuple(rows),
        untried=tuple(NotTried(one.name, one.setting, one.to, reason) for one, reason in untried),
        generated=spending.spent,
        budget=spending.items,
        dollars=None if spending.tariff is None else spending.dollars,
        everything=everything,
        short=spending.short,
        seconds=spending.elapsed,
        next_step="",
    )
    return dataclasses.replace(found, sentence=sentence(found), next_step=next_step(found))


def _judge(inquiry: Inquiry, trial: Trial, gap: Gap | None) -> JudgedTrial | None:
    """Returns evidence, verdict on the change alone, and reason; ``None`` if nothing is known."""
    known = None if gap is None else inquiry.weighed(trial)
    if gap is None or known is None:
        return None
    if gap.noise:
        return JudgedTrial(known, "cannot tell", "the gap itself is no more than chance gives")
    if inquiry.frame.goal.outcomes is not None and any(scores_only(one) for one in trial.hypotheses):
        return JudgedTrial(known, "ruled out", SCORED_ALIKE)
    return JudgedTrial(known, *verdict_of(inquiry.frame, trial, known, gap, inquiry.alpha(trial) / LOOKS))


def _name(inquiry: Inquiry, trials: Sequence[Trial], judged: Judged, gap: Gap | None) -> Names:
    """Returns the change that explains the gap, if one does and no other fits about as well, and else those that do."""
    known = {id(one): found for one in trials if (found := judged[id(one)]) is not None}
    if gap is None or not known:
        return Names()
    for size in sorted({len(one.hypotheses) for one in trials}):  # two at once only where no single one suffices
        able = [one for one in trials if len(one.hypotheses) <= size and id(one) in known]
        good = [one for one in able if known[id(one)].verdict == "explains it" and len(one.hypotheses) == size]
        good = [one for one in good if size == 1 or inquiry.both_needed(one)]
        good.sort(key=lambda one: -known[id(one)].evidence.fit)
        if not good or (size == 1 and _behind(inquiry, good[0], judged)):
            continue
        best = good[0]
        least = known[id(best)].evidence.fit + math.log(RIVAL)
        rivals = [one for one in able if one is not best and known[id(one)].evidence.fit >= least]
        rivals = [one for one in rivals if known[id(one)].verdict in ("explains it", "cannot tell")]
        rivals = [one for one in rivals if not inquiry.includes(one, best)]
        coincidence = inquiry.frame.goal.outcomes is None and none_fits(inquiry.frame) >= least
        return Names(rivals=(best, *rivals)) if rivals or coincidence else Names((best,))
    parts = [one for one in trials if id(one) in known and known[id(one)].verdict in ("contributes", "explains it")]
    return Names(nearest=max(parts, key=lambda one: known[id(one)].evidence.lead, default=None))


def _behind(inquiry: Inquiry, single: Trial, judged: Judged) -> bool:
    """Whether a second change is hidden behind a single one: texts under both are shown to be nearer to the goal's."""
    pairs = [one for one in inquiry.pairs if set(single.name) < set(one.name)] if inquiry.frame.goal.outcomes else []
    explaining = [one for one in pairs if (found := judged[id(one)]) is not None and found.verdict == "explains it"]
    return any(inquiry.beats(one, single) and inquiry.both_needed(one) for one in explaining)


def _row(inquiry: Inquiry, trial: Trial, judged: Judged, names: Names) -> Tried:
    found = judged[id(trial)]
    verdict, reason = _verdict(inquiry, trial, found, names)
    row = dataclasses.replace(
        blank_row(inquiry.base, trial, inquiry.frame.n), paid=trial.plan is not None, verdict=verdict, reason=reason
    )
    if found is None:
        return row
    known = found.evidence
    return dataclasses.replace(
        row,
        items=known.seen,
        effect=100 * known.effect,
        low=100 * known.interval.low,
        high=100 * known.interval.high,
        left=100 * known.left,
        left_low=100 * known.left_interval.low,
        left_high=100 * known.left_interval.high,
        same_text=known.same_text,
        fit=known.fit,
    )


def blank_row(base: Base, trial: Trial, n: int) -> Tried:
    """Returns a trial's row with its settings in words, and nothing known of it."""
    before = [value_before(one, base) for one in trial.hypotheses]
    changes = [f"{one.setting}: {one.to} instead of {was}" for one, was in zip(trial.hypotheses, before, strict=True)]
    return Tried(
        names=trial.name,
        setting=" and ".join(one.setting for one in trial.hypotheses),
        was="; ".join(before),
        to="; ".join(one.to for one in trial.hypotheses),
        change=", and ".join(changes),
        source="; ".join(one.source for one in trial.hypotheses),
        n=n,
    )


def _verdict(inquiry: Inquiry, trial: Trial, found: JudgedTrial | None, names: Names) -> tuple[ExplainVerdict, str]:
    """Returns the verdict on a change beside all others, with its reason."""
    if found is None:
        return "cannot tell", "not looked at"
    verdict, reason = found.verdict, found.reason
    if trial in names.rivals:
        others = " or ".join(_called(one) for one in names.rivals if one is not trial)
        return "cannot tell", f"fits about as well as {others}" if others else BY_CHANCE
    if verdict in ("explains it", "contributes") and names.named and not set(trial.name) <= set(names.named[0].name):
        size = abs(inquiry.gap.size) if inquiry.gap else 0.0
        within = max(inquiry.frame.chance(trial), REST * size)
        return _beside(_called(names.named[0]), found, within)
    if verdict == "explains it" and names.named and trial not in names.named:
        return "contributes", f"a second setting is behind it: with {_called(names.named[0])} the texts are nearer"
    if verdict in ("explains it", "contributes") and names.nearest and not set(trial.name) <= set(names.nearest.name):
        return "cannot tell", f"it moves the number towards the goal, and the texts under {_called(names.nearest)} are nearer"
    if verdict == "explains it" and trial not in names.named:
        return "cannot tell", "it would do, and another fits better"
    return verdict, reason


def _beside(named: str, found: JudgedTrial, within: float) -> tuple[ExplainVerdict, str]:
    """Returns the verdict on a change that has an effect where another explains the gap; ``within`` is what may be left."""
    evidence = found.evidence
    if evidence.astray:
        return "ruled out", f"{named} explains the gap, and this gives other answers than the goal has"
    if evidence.left_interval.high < -within or evidence.left_interval.low > within:
        return "ruled out", f"{named} explains the gap, and this alone leaves {100 * evidence.left:+.1f} points"
    return "cannot tell", f"it has an effect, too, and {named} explains the gap better"


def _called(trial: Trial) -> str:
    return "+".join(trial.name)


def _with_alike(rows: Sequence[Tried], trials: Sequence[Trial], judged: Judged) -> list[Tried]:
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
