"""Makes trials of hypotheses: which are free, which need a plan of their own, and which cannot be tried here and why."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from tulu_eval.benchmarks.common_hypotheses import shown
from tulu_eval.benchmarks.hypothesis import (
    Hypothesis,
    OtherCount,
    OtherDecoding,
    OtherEngine,
    OtherItems,
    OtherScorer,
    OtherWriting,
    Shortest,
    Uncut,
)
from tulu_eval.benchmarks.varied import name_of
from tulu_eval.errors import UserError
from tulu_eval.findings.explaining.base_and_goal import Base, Goal
from tulu_eval.findings.explaining.frame import Trial
from tulu_eval.findings.explaining.scoring_rule import CannotApply, Rule
from tulu_eval.records import Decoding
from tulu_eval.registry import Suite
from tulu_eval.runs.grading import Grader
from tulu_eval.runs.order import Order
from tulu_eval.runs.run_plan import Plan, make_plan
from tulu_eval.store.sample_line import Sample


class Untried(NamedTuple):
    """A hypothesis that cannot be tried here, and why."""

    hypothesis: Hypothesis
    reason: str


@dataclasses.dataclass(slots=True)
class Trials:
    """All single trials of a base.

    Attributes:
        free: Trials that need only the samples that the base has.
        paid: Trials that need samples to be generated.
        untried: What cannot be tried here.
    """

    free: list[Trial]
    paid: list[Trial]
    untried: list[Untried]


def make_trials(
    base: Base, goal: Goal, there: dict[str, Sample], suite: Suite, samples_of: Callable[[Plan], Mapping[str, Sample]]
) -> Trials:
    """Returns the trials of a base's hypotheses; those that change nothing of its requests and samples are left out.

    Args:
        base: The base.
        goal: The goal, which decides whether changes of the items can be tried.
        there: The base's samples; it may grow.
        suite: The registry.
        samples_of: Returns the samples of a plan, which may grow.
    """
    found = Trials(free_trials(base, goal, there), [], [])
    seen = {_requests(base.plan)} if base.plan else set()
    for one in base.benchmark.hypotheses(base.protocol):
        try:
            _free(base.rule, one, goal)
        except CannotApply as reason:
            if scores_only(one) or str(reason) == SAME:
                continue
            _add_paid(found, base, one, seen, suite, samples_of, str(reason))
    return found


def free_trials(base: Base, goal: Goal, there: Mapping[str, Sample]) -> list[Trial]:
    """Returns the trials of the hypotheses that the base's own samples show; no plan is made for them."""
    found = []
    for one in base.benchmark.hypotheses(base.protocol):
        with contextlib.suppress(CannotApply):
            found.append(Trial((one,), None, _free(base.rule, one, goal), there))
    return found


def scores_only(one: Hypothesis) -> bool:
    """Whether a change makes other numbers of the same texts: another scorer, or other items that count, or count otherwise."""
    return isinstance(one.change, OtherScorer | OtherCount | Uncut | OtherItems | Shortest)


SAME = "the recipe has it already"


def _free(rule: Rule, one: Hypothesis, goal: Goal) -> Rule:
    """Returns the rule of a free hypothesis; raises CannotApply if it is not free, or of no use."""
    change = one.change
    claim = goal.claim if goal.outcomes is None else None
    if isinstance(change, OtherItems | Shortest):
        if claim is None or claim.n >= len(goal.items):
            raise CannotApply("the items are known")
        return rule
    if isinstance(change, OtherCount) and change.how == "left out" and claim is None:
        raise CannotApply("the items are known")
    if isinstance(change, Uncut) and rule.grader.reasoning is None:
        raise CannotApply("nothing is cut")
    return rule.changed(change)


def _add_paid(
    found: Trials,
    base: Base,
    one: Hypothesis,
    seen: set[tuple[str, ...]],
    suite: Suite,
    samples_of: Callable[[Plan], Mapping[str, Sample]],
    reason: str,
) -> None:
    if base.plan is None:
        cut = isinstance(one.change, OtherDecoding) and one.change.temperature is None
        found.untried.append(Untried(one, reason if cut else base.unpaid))
        return
    try:
        plan = vary(base.plan, (one,), suite)
    except UserError as error:
        found.untried.append(Untried(one, error.command_line))
        return
    requests = _requests(plan)
    if requests not in seen:
        seen.add(requests)
        found.paid.append(paid_trial(base, (one,), plan, samples_of(plan)))


def paid_trial(base: Base, hypotheses: tuple[Hypothesis, ...], plan: Plan, samples: Mapping[str, Sample]) -> Trial:
    """Returns a trial of samples to be generated."""
    grader = Grader.of(plan.benchmark, plan.setup)
    rule = dataclasses.replace(base.rule, grader=grader, decoding=plan.decoding)
    cost = _seconds(plan) / _seconds(base.plan) if base.plan else 1.0
    return Trial(hypotheses, plan, rule, samples, cost)


def vary(plan: Plan, hypotheses: Sequence[Hypothesis], suite: Suite) -> Plan:
    """Returns the plan of a recipe with paid hypotheses; those of the engine change the order and not the protocol.

    Raises:
        UserError: If it cannot be made, or its engine cannot run here.
    """
    order = plan.order
    asked = tuple(one for one in hypotheses if not isinstance(one.change, OtherEngine))
    for one in hypotheses:
        if isinstance(one.change, OtherEngine):
            order = _engine(order, one.change)
    if asked:
        order = dataclasses.replace(order, protocol=name_of(plan.protocol.name, asked))
    found = make_plan(order, suite)
    if order.settings != plan.order.settings or order.backend != plan.order.backend:
        found.backend.check(found.model, found.order.settings)
    return found


def _engine(order: Order, change: OtherEngine) -> Order:
    settings = order.settings
    if change.dtype:
        settings = dataclasses.replace(settings, dtype=change.dtype)
    if change.quantization:
        settings = dataclasses.replace(settings, quantization=change.quantization)
    return dataclasses.replace(order, settings=settings, backend=change.backend or order.backend)


def _requests(plan: Plan) -> tuple[str, ...]:
    return tuple(one.request.key for one in plan.planned)


def _seconds(plan: Plan) -> float:
    """Returns the cost of an item in tokens: those generated one by one count, those read at once a twentieth of that."""
    prompts = sum(len(one.request.token_ids) for one in plan.planned) / max(len(plan.planned), 1)
    return prompts / 20 + plan.decoding.max_new_tokens


def free_on(trial: Trial, free: Sequence[Trial], goal: Goal) -> list[Trial]:
    """Returns the free changes of a trial's samples, each as one more change at once; none of a setting that it changes."""
    found = []
    for other in free:
        (one,) = other.hypotheses
        if any(one.setting == own.setting for own in trial.hypotheses):
            continue
        try:
            rule = _free(trial.rule, one, goal)
        except CannotApply:
            continue
        found.append(Trial((*trial.hypotheses, one), trial.plan, rule, trial.samples, trial.cost))
    return found


def pairs_of(
    base: Base, pairs: Sequence[tuple[Trial, Trial]], suite: Suite, samples_of: Callable[[Plan], Mapping[str, Sample]]
) -> list[Trial]:
    """Returns the trials of two paid changes at once, of settings that are not the same."""
    found = []
    for one, other in pairs:
        hypotheses = (*one.hypotheses, *other.hypotheses)
        if base.plan is None or len({each.setting for each in hypotheses}) < len(hypotheses):
            continue
        try:
            plan = vary(base.plan, hypotheses, suite)
        except UserError:
            continue
        if _requests(plan) not in {_requests(each.plan) for each in (one, other) if each.plan}:
            found.append(paid_trial(base, hypotheses, plan, samples_of(plan)))
    return found


def value_before(one: Hypothesis, base: Base) -> str:
    """Returns the value of a hypothesis' setting in the base, in words."""
    decoding: Decoding | None = base.rule.decoding
    change = one.change
    if isinstance(change, OtherScorer):
        return base.rule.scorer
    if isinstance(change, OtherDecoding) and decoding is not None:
        if change.temperature is not None:
            return "greedy" if decoding.greedy else f"temperature {decoding.temperature:g}"
        return str(decoding.max_new_tokens) if change.max_new_tokens is not None else shown(decoding.stop)
    if isinstance(change, OtherWriting) and not one.usual and base.plan is not None:
        return {"chat": "the model's own"}.get(base.plan.template.form, base.plan.template.form)
    if isinstance(change, OtherEngine) and not one.usual and base.plan is not None:
        return base.plan.dtype if change.dtype else base.plan.backend.name
    return one.usual or "unknown"
