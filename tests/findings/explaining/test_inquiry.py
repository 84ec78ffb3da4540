"""Two changes at once are named after each is shown to be needed, on as many items as that takes."""

from __future__ import annotations

from collections.abc import Collection
from types import SimpleNamespace
from typing import Any

from tulu_eval.benchmarks.hypothesis import Hypothesis, OtherPrompt
from tulu_eval.findings.explaining.base_and_goal import Goal
from tulu_eval.findings.explaining.frame import Frame, Trial
from tulu_eval.findings.explaining.inquiry import Inquiry
from tulu_eval.findings.explaining.scoring_rule import RuleOutcome
from tulu_eval.findings.explaining.trials import Trials
from tulu_eval.findings.explaining.verdicts import gap_of

ITEMS = tuple(f"item-{at}" for at in range(200))
RARE = {item for at, item in enumerate(ITEMS) if at % 12 == 11}
"""Items that show the second change, as a stop string does that few answers have."""


def outcomes(changed: Collection[str], cut: Collection[str]) -> dict[str, RuleOutcome]:
    """Returns wrong answers on the items of the first change, and texts that the second one cuts."""
    found = {}
    for item in ITEMS:
        text = ("no" if item in changed else "yes") + ("" if item in cut else ".")
        found[item] = RuleOutcome(float(item not in changed and item not in cut), text)
    return found


def made(names: tuple[str, ...], known: dict[str, RuleOutcome], samples: dict[str, Any], plan: Any) -> Trial:
    changes = tuple(Hypothesis(one, one, "other", "made up", OtherPrompt(lambda prompt, item: prompt), "own") for one in names)
    rule: Any = SimpleNamespace(outcome=lambda item: known[item])
    return Trial(changes, plan, rule, samples, 1.0)


def test_a_rare_second_change_is_looked_at_until_it_is_shown_to_be_needed() -> None:
    first = {item for at, item in enumerate(ITEMS) if at % 3}
    every: dict[str, Any] = {item: item for item in ITEMS}
    some: dict[str, Any] = {item: item for item in ITEMS[:128]}
    plan: Any = SimpleNamespace()
    base = made((), outcomes((), ()), every, None)
    free = made(("stop",), outcomes((), RARE), every, None)
    paid = made(("prompt",), outcomes(first, ()), some, plan)
    pair = made(("prompt", "stop"), outcomes(first, RARE), some, plan)
    goal = Goal("texts", ITEMS, outcomes(first, RARE))
    frame = Frame(goal, ITEMS, base, 0.05)
    inquiry = Inquiry(SimpleNamespace(), frame, Trials([free], [paid], []), SimpleNamespace())  # type: ignore[arg-type]
    inquiry.gap, inquiry.pairs = gap_of(frame), [pair]
    assert not inquiry.both_needed(pair)

    def get(plan: Any, items: Collection[str]) -> bool:
        some.update({item: item for item in items})
        return True

    inquiry._compare(SimpleNamespace(get=get))  # type: ignore[arg-type]
    assert inquiry.both_needed(pair)
    assert len(some) == len(ITEMS)
