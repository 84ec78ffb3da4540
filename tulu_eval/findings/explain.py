"""Which setting explains the gap between two numbers: tries one after the other, and says what each does.

The base is a recipe whose settings are known; the goal is the number that it should have given. Free changes are made on the
samples that are there, paid ones on as few generated items as tell enough; all of it stays in the ledgers, where ``run`` finds
it. Nothing that an imported run's manifest says of its settings is believed.

Texts tell what was asked and how it was answered; a number that is told beside them tells how they were scored
(:mod:`tulu_eval.findings.explaining.told_scoring`). So each part of the gap has its own evidence.
"""

from __future__ import annotations

import math
import random

from tulu_eval.findings.explaining.base_and_goal import Base, Goal
from tulu_eval.findings.explaining.explanation import Explanation, Wishes
from tulu_eval.findings.explaining.frame import Frame, Trial
from tulu_eval.findings.explaining.inquiry import Inquiry
from tulu_eval.findings.explaining.naming import report
from tulu_eval.findings.explaining.search import Lab, Spending
from tulu_eval.findings.explaining.told_scoring import with_scoring
from tulu_eval.findings.explaining.trials import Trials, free_trials, make_trials
from tulu_eval.findings.explaining.verdicts import gap_of
from tulu_eval.registry import Suite
from tulu_eval.runs.progress import Progress
from tulu_eval.store.sample_line import Sample

SEED = 0
"""Seed of the order in which items are seen."""

BUDGET = 0.25
"""Default budget, as a share of generating every paid change on all items."""


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
        inquiry = Inquiry(base, frame, Trials(free_trials(base, goal, there), [], []), suite)
        return with_scoring(report(inquiry, gap, spending, everything=0), frame, base)
    if base.plan is not None:
        progress.say(f"planning every change of the recipe on {frame.n} items ...")
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
    return with_scoring(report(inquiry, gap, spending, everything), frame, base)
