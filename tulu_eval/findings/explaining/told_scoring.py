"""How texts were scored for the number that is told of them: exact, and free.

The texts of the goal are there, so each way of scoring them gives one number, without a model and without chance. First the
base's own way is held against the told number, then one change of it, then two where no single one gives the number. So the
gap has two parts: the texts, which :mod:`~tulu_eval.findings.explaining.inquiry` explains with both sides scored alike, and the
scoring of the goal's texts. Their effects add up, since the second is measured where the first ends.

A wrong way may give the number by chance. As with bare numbers, a way is named only if it is the only one that gives the number
and has most of the weight (``SURE`` in :mod:`~tulu_eval.findings.explaining.search`) beside a way that is in no list, for which
every count is equally likely.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tulu_eval.benchmarks.hypothesis import Hypothesis, OtherItems, Shortest, Uncut
from tulu_eval.findings.claims import Claim
from tulu_eval.findings.explaining.base_and_goal import Base, Goal
from tulu_eval.findings.explaining.explanation import Explanation, Tried
from tulu_eval.findings.explaining.frame import Frame, Trial
from tulu_eval.findings.explaining.naming import blank_row
from tulu_eval.findings.explaining.scoring_rule import CannotApply, Rule
from tulu_eval.findings.explaining.search import SURE, UNLISTED
from tulu_eval.findings.explaining.sentences import next_step, sentence
from tulu_eval.findings.explaining.trials import scores_only
from tulu_eval.findings.explaining.verdicts import ExplainVerdict, Gap, told_gap


class Way(NamedTuple):
    """A way of scoring the goal's texts, and the number (0 to 1) that it gives, with its items."""

    trial: Trial
    number: float
    n: int


@dataclasses.dataclass(frozen=True, slots=True)
class ToldScoring:
    """What the number beside the texts tells of their scoring.

    Attributes:
        ways: The changes of the base's way that were tried.
        fitting: Those that give the number, if the base's own way does not; the likeliest first.
        own: The number of the base's own way, as a fraction of 1.
        rest: The number minus that of the base's own way, as a fraction of 1.
        sure: Whether one way fits, and fits better than one that is in no list.
    """

    ways: tuple[Way, ...]
    fitting: tuple[Way, ...]
    own: float
    rest: float
    sure: bool


def with_scoring(found: Explanation, frame: Frame, base: Base) -> Explanation:
    """Returns an explanation of texts with what the number beside them tells; itself where there is no such number."""
    goal, gap = frame.goal, found.gap
    if goal.claim is None or goal.outcomes is None or gap is None:
        return found
    told = read_scoring(base, goal, goal.claim, frame.chance(frame.base))
    known = {way.trial.name for way in told.ways}
    texts = [_moved(row, 100 * told.rest) for row in found.tried if row.names not in known]
    rows = [_row(base, way, gap, told, frame.n) for way in told.ways if len(way.trial.name) == 1 or way in told.fitting]
    joined = _joined(dataclasses.replace(found, tried=tuple(texts)), rows, told, frame.flip_rate)
    tried = sorted(joined.tried, key=lambda row: (row.names != joined.named, -abs(row.effect or 0.0)))
    joined = dataclasses.replace(joined, tried=tuple(tried))
    return dataclasses.replace(joined, sentence=sentence(joined), next_step=next_step(joined))


def read_scoring(base: Base, goal: Goal, claim: Claim, chance: float) -> ToldScoring:
    """Returns which ways of scoring the goal's texts give a number; ``chance`` (0 to 1) is what flips of single items give."""
    own, *others = _ways(base, goal, claim)
    rest = claim.right / claim.n - own.number
    if _fits(own, claim) or abs(rest) <= chance:
        return ToldScoring(tuple(others), (), own.number, 0.0 if _fits(own, claim) else rest, sure=False)
    able = [way for way in others if _fits(way, claim)]
    least = min((len(way.trial.hypotheses) for way in able), default=0)
    able = sorted((way for way in able if len(way.trial.hypotheses) == least), key=lambda way: -way.trial.weight)
    weights = [way.trial.weight for way in able]
    sure = len(able) == 1 and weights[0] >= SURE * (weights[0] + UNLISTED / (claim.n + 1))
    return ToldScoring(tuple(others), tuple(able), own.number, rest, sure)


def _ways(base: Base, goal: Goal, claim: Claim) -> Iterator[Way]:
    """Yields the base's own way, then each change of it, then two at once."""
    plain = dataclasses.replace(base.rule, ends=None)
    trials = [Trial((), None, plain, goal.samples)]
    listed = [one for one in base.benchmark.hypotheses(base.protocol) if scores_only(one)]
    for several in (*((one,) for one in listed), *itertools.combinations(listed, 2)):
        if len({one.setting for one in several}) == len(several) and (rule := _rule(plain, several, goal, claim)) is not None:
            trials.append(Trial(several, None, rule, goal.samples))
    for trial in trials:
        found = trial.number(tuple(goal.samples), claim.n)
        if found is not None:
            yield Way(trial, *found)


def _rule(plain: Rule, several: Sequence[Hypothesis], goal: Goal, claim: Claim) -> Rule | None:
    """Returns the rule with some changes; ``None`` if one changes nothing here.

    A run that was stopped has no texts of its other items, and here all are.
    """
    for one in several:
        if isinstance(one.change, Shortest) or (isinstance(one.change, OtherItems) and claim.n >= len(goal.samples)):
            return None
        if isinstance(one.change, OtherItems):
            continue
        if isinstance(one.change, Uncut) and plain.grader.reasoning is None:
            return None
        try:
            plain = plain.changed(one.change)
        except CannotApply:
            return None
    return plain


def _fits(way: Way, claim: Claim) -> bool:
    return way.n == claim.n and claim.least - 0.5 < way.number * way.n < claim.most + 0.5


def _moved(row: Tried, points: float) -> Tried:
    """Returns a row of the texts with what is left of the whole gap, rather than of that between texts scored alike."""
    if row.left is None or row.left_low is None or row.left_high is None:
        return row
    return dataclasses.replace(row, left=row.left + points, left_low=row.left_low + points, left_high=row.left_high + points)


def _row(base: Base, way: Way, gap: Gap, told: ToldScoring, n: int) -> Tried:
    """Returns the row of a way of scoring: its effect on the goal's own texts, which is exact."""
    fits = way in told.fitting
    effect = 100 * (way.number - told.own)
    left = 100 * (gap.size + told.rest) - effect
    verdict: ExplainVerdict = "ruled out"
    reason = f"of the same texts it gives {100 * way.number:.1f} % on {way.n} items, which is not the number"
    if fits:
        verdict = "contributes" if told.sure else "cannot tell"
        reason = f"of the same texts it gives exactly {100 * way.number:.1f} % on {way.n} items"
        reason += "" if told.sure else ", and so do others, or chance might"
    return dataclasses.replace(
        blank_row(base, way.trial, n), items=way.n, effect=effect, low=effect, high=effect, left=left, left_low=left,
        left_high=left, verdict=verdict, reason=reason,
    )  # fmt: skip


def _joined(found: Explanation, rows: Sequence[Tried], told: ToldScoring, flip_rate: float) -> Explanation:
    """Returns an explanation of the texts together with the rows of their scoring; nothing is in order yet."""
    gap = found.gap
    if gap is None or not told.rest:
        return dataclasses.replace(found, tried=(*found.tried, *rows))
    if not told.fitting and abs(100 * told.rest) <= found.chance:  # flips alone give as much
        return dataclasses.replace(found, gap=told_gap(gap, told.rest, flip_rate), tried=(*found.tried, *rows))
    whole = gap._replace(goal=gap.goal + told.rest, p_value=0.0, how="the same texts, scored otherwise")
    fitting = {way.trial.name for way in told.fitting}
    scored = [row for row in rows if row.names in fitting]
    text = next((row for row in found.tried if found.named and row.names == found.named), None)
    causes = [] if text is None else [_together(text, row) for row in scored]
    beside = [row for row in found.tried if row is not text]
    if text is not None:
        beside.append(dataclasses.replace(text, verdict="contributes", reason=f"of the texts: {text.reason}"))
    if gap.noise:  # the texts are the base's own up to flips, so their scoring is all there is
        causes, rows = scored, [row for row in rows if row not in scored]
    named = causes[0].names if told.sure and causes else ()
    if named:
        causes = [dataclasses.replace(causes[0], verdict="explains it")]
    rivals = () if named else tuple(row.names for row in causes) or found.rivals
    return dataclasses.replace(
        found, gap=whole, named=named, rivals=rivals, tried=(*beside, *rows, *causes),
        scored=scored[0].names if told.sure else (),
    )  # fmt: skip


def _together(text: Tried, scored: Tried) -> Tried:
    """Returns the row of what explains the texts together with a way of scoring them; their effects add up."""
    effect = scored.effect or 0.0
    return dataclasses.replace(
        _moved(text, -effect),
        names=(*text.names, *scored.names),
        setting=f"{text.setting} and {scored.setting}",
        was=f"{text.was}; {scored.was}",
        to=f"{text.to}; {scored.to}",
        change=f"{text.change}, and {scored.change}",
        source=f"{text.source}; {scored.source}",
        effect=(text.effect or 0.0) + effect,
        low=(text.low or 0.0) + effect,
        high=(text.high or 0.0) + effect,
        verdict="cannot tell",
        reason=scored.reason,
    )
