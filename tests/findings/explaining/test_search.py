"""What is generated next, and that a budget is used to its end."""

from __future__ import annotations

from collections.abc import Collection
from types import SimpleNamespace
from typing import Any

from tulu_eval.benchmarks.hypothesis import Hypothesis, OtherPrompt
from tulu_eval.findings.claims import read_claim
from tulu_eval.findings.explaining.base_and_goal import Goal
from tulu_eval.findings.explaining.frame import Frame, Trial
from tulu_eval.findings.explaining.scoring_rule import RuleOutcome
from tulu_eval.findings.explaining.search import Spending, first_look, search

ITEMS = tuple(f"item-{at}" for at in range(140))
OWN = {item: RuleOutcome(1.0, "own") for item in ITEMS}


class Store:
    """Has all samples, and gives them while the budget lasts."""

    def __init__(self, spending: Spending) -> None:
        self.spending = spending

    def get(self, plan: Any, items: Collection[str]) -> bool:
        missing = {item for item in items if item not in plan.samples}
        if not self.spending.allows(plan, missing):
            return False
        plan.samples.update({item: plan.answers[item] for item in missing})
        self.spending.count(plan, {}, len(missing))
        return True


def paid(name: str, wrong: int) -> Trial:
    """Returns a trial under which every so many items are wrong."""
    samples: dict[str, Any] = {}
    answers = {item: RuleOutcome(float(at % wrong != 0), name) for at, item in enumerate(ITEMS)}
    plan = SimpleNamespace(samples=samples, answers=answers, backend=SimpleNamespace(name="scripted"),
                           order=SimpleNamespace(settings=None))  # fmt: skip
    one = Hypothesis(name, name, "other", "made up", OtherPrompt(lambda prompt, item: prompt), "own")
    rule: Any = SimpleNamespace(outcome=lambda sample: sample)
    return Trial((one,), plan, rule, samples, 1.0)  # type: ignore[arg-type]


def test_the_last_look_takes_what_is_left_of_the_budget() -> None:
    base = Trial((), None, SimpleNamespace(), {}, 0.0, "", dict(OWN))  # type: ignore[arg-type]
    goal = Goal("a number", ITEMS, None, read_claim("80.0", len(ITEMS)))
    frame = Frame(goal, ITEMS, base, 0.05)
    trials = [paid("near", 5), paid("far", 60)]
    start = first_look(frame)
    spending = Spending(2 * start + 7, None)
    search(frame, trials, [], lambda _: (), Store(spending), lambda _: False, spending.items)  # type: ignore[arg-type]
    assert [len(one.samples) for one in trials] == [start + 7, start]
    assert spending.spent == spending.items
    assert spending.rest == 0
    assert spending.short
