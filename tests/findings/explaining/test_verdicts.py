"""What is claimed where there is nothing to claim, on drawn scores: of 100 searches without a true cause one may claim any."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest

from tulu_eval.benchmarks.hypothesis import Hypothesis, OtherPrompt
from tulu_eval.findings.claims import read_claim
from tulu_eval.findings.explaining.base_and_goal import Goal
from tulu_eval.findings.explaining.explanation import Explanation
from tulu_eval.findings.explaining.frame import Frame, Trial, likeness
from tulu_eval.findings.explaining.inquiry import Inquiry
from tulu_eval.findings.explaining.naming import report
from tulu_eval.findings.explaining.scoring_rule import RuleOutcome
from tulu_eval.findings.explaining.search import Spending
from tulu_eval.findings.explaining.trials import Trials
from tulu_eval.findings.explaining.verdicts import Gap, gap_of, told_gap

ITEMS = tuple(f"item-{at}" for at in range(300))
RATE = 0.05
"""Share of items that may flip between two runs, as it is assumed of a run whose engine is not the same."""

Scores = dict[str, float]


def flipped(draw: random.Random, scores: Scores, rate: float) -> Scores:
    return {item: 1.0 - one if draw.random() < rate else one for item, one in scores.items()}


def moved(draw: random.Random, scores: Scores, share: float) -> Scores:
    """Moves a share of all items from right to wrong, or from wrong to right if the share is above 0."""
    able = [item for item, one in scores.items() if one == (0.0 if share > 0 else 1.0)]
    return scores | {item: float(share > 0) for item in draw.sample(able, round(abs(share) * len(scores)))}


def trial(name: str, scores: Scores, seen: int, texts: dict[str, str] | None = None) -> Trial:
    """Returns a trial whose texts are its name, unless they are given."""
    one = Hypothesis(name, name, "other", "made up", OtherPrompt(lambda prompt, item: prompt), "own")
    known: Any = {item: RuleOutcome(score, (texts or {}).get(item, name)) for item, score in list(scores.items())[:seen]}
    return Trial((one,), None, SimpleNamespace(), known, 0.0, "", dict(known))  # type: ignore[arg-type]


def searched(
    own: Scores, goal: Scores, changes: list[Scores], *, texts: bool, seen: int, written: list[dict[str, str]] | None = None
) -> Explanation:
    """Returns what is said of changes of which that many items were seen; the goal is given as texts or as a number.

    Where a change gives the goal's score, its text is the goal's, too, unless its texts are in ``written``.
    """
    words, items = "made up", tuple(own)
    theirs = {item: RuleOutcome(score, "goal's") for item, score in goal.items()}
    number = f"{100 * sum(goal.values()) / len(goal):.1f}"
    given = Goal(words, items, theirs) if texts else Goal(words, items, None, read_claim(number, len(items)))
    frame = Frame(given, items, trial("base", own, len(items)), RATE)
    same = [{item: "goal's" for item in items if scores[item] == goal[item] != own[item]} for scores in changes]
    named = zip(changes, written or same, strict=True)
    trials = [trial(f"change-{at}", scores, seen, words) for at, (scores, words) in enumerate(named)]
    base: Any = SimpleNamespace(words=words, rule=SimpleNamespace(decoding=None), plan=None)
    inquiry = Inquiry(base, frame, Trials(trials, [], []), SimpleNamespace())  # type: ignore[arg-type]
    gap = gap_of(frame)
    inquiry._gap = gap
    return report(inquiry, gap, Spending(0, None), 0)


def claims(found: Explanation) -> bool:
    return bool(found.named) or any(row.verdict in ("explains it", "contributes") for row in found.tried)


@pytest.mark.parametrize("texts", [True, False])
def test_flips_alone_are_claimed_of_nothing(texts: bool) -> None:
    """The goal differs from the base by flips; of the changes all but two do, too, and these move the number by 8 points."""
    draw = random.Random(7)
    false = 0
    for _ in range(150):
        own = {item: float(draw.random() < 0.6) for item in ITEMS}
        changes = [flipped(draw, own, RATE * draw.random()) for _ in range(10)]
        changes += [moved(draw, own, share) for share in (-0.08, 0.08)]
        false += claims(searched(own, flipped(draw, own, RATE / 2), changes, texts=texts, seen=len(ITEMS)))
    assert false <= 4, "1 in 100 would be more than 4 of 150 in 2 of 100 draws"


@pytest.mark.parametrize(("texts", "seen"), [(True, 32), (True, 128), (False, 32), (False, 128)])
def test_a_cause_that_is_in_no_list_is_claimed_of_no_other_change(texts: bool, seen: int) -> None:
    draw = random.Random(8)
    false = 0
    for at in range(40):
        own = {item: float(draw.random() < 0.6) for item in ITEMS}
        goal = moved(draw, own, 0.2 if at % 2 else -0.2)
        false += claims(searched(own, goal, [flipped(draw, own, RATE) for _ in range(10)], texts=texts, seen=seen))
    assert false <= 2, "1 in 100 would be more than 2 of 40 in 1 of 100 draws"


@pytest.mark.parametrize(("texts", "size", "named"), [(True, 200, True), (False, 200, False), (False, 300, True)])
def test_the_cause_itself_is_named_from_texts_and_among_chance_from_a_number_of_few_items(
    texts: bool, size: int, named: bool
) -> None:
    draw = random.Random(9)
    own = {item: float(draw.random() < 0.6) for item in ITEMS[:size]}
    goal = moved(draw, own, -0.2)
    changes = [flipped(draw, own, RATE) for _ in range(5)] + [goal]
    found = searched(own, goal, changes, texts=texts, seen=size)
    assert (found.named, found.rivals) == ((("change-5",), ()) if named else ((), (("change-5",),)))


@pytest.mark.parametrize(("texts", "verdict"), [(True, "contributes"), (False, "cannot tell")])
def test_an_effect_on_the_way_contributes_to_texts_and_to_no_bare_number(texts: bool, verdict: str) -> None:
    """The gap is -30 points, half of it by a change that was tried; a number does not show whether the goal has that change."""
    draw = random.Random(11)
    own = {item: float(draw.random() < 0.8) for item in ITEMS}
    half = moved(draw, own, -0.15)
    found = searched(own, moved(draw, half, -0.15), [half], texts=texts, seen=len(ITEMS))
    assert [row.verdict for row in found.tried] == [verdict]
    assert found.named == ()
    assert [name for name, _ in found.steps] == ["change-0: other", "not explained"][0 if texts else 1 :]


def test_an_effect_whose_texts_are_no_nearer_is_claimed_of_nothing() -> None:
    """The change moves the number as the goal has it, on the same items, and its texts are not the goal's."""
    draw = random.Random(12)
    own = {item: float(draw.random() < 0.8) for item in ITEMS}
    half = moved(draw, own, -0.15)
    for goal in (half, moved(draw, half, -0.15)):
        found = searched(own, goal, [half], texts=True, seen=len(ITEMS), written=[{}])
        assert [row.verdict for row in found.tried] == ["cannot tell"]
        assert "its texts are not shown to be nearer" in found.tried[0].reason
        assert not claims(found)


def test_of_two_effects_on_the_way_the_one_with_the_nearest_texts_contributes() -> None:
    draw = random.Random(13)
    own = {item: float(draw.random() < 0.8) for item in ITEMS}
    near = moved(draw, own, -0.2)
    goal = moved(draw, near, -0.2)
    changed = [item for item in ITEMS if near[item] != own[item]]
    far = own | dict.fromkeys(changed[: len(changed) // 2], 0.0)
    found = searched(own, goal, [near, far], texts=True, seen=len(ITEMS))
    assert {row.names[0]: row.verdict for row in found.tried} == {"change-0": "contributes", "change-1": "cannot tell"}


def test_the_effect_of_what_gives_the_goals_own_scores_is_known_from_few_items() -> None:
    """Both sides' distance is known, so that 128 of 300 items tell the effect to 9 points, and by itself to 20."""
    draw = random.Random(14)
    own = {item: float(draw.random() < 0.6) for item in ITEMS}
    goal = moved(draw, own, -0.2)
    row = searched(own, goal, [goal], texts=True, seen=128).tried[0]
    assert row.effect == pytest.approx(-20.0)
    assert row.low is not None
    assert row.high is not None
    assert row.low < -20.0 < row.high
    assert row.high - row.low < 10.0


def test_likeness_is_the_share_that_both_begin_with() -> None:
    assert likeness(" so it is 4.\n", "so it is 4.") == 1.0
    assert likeness("so it is 4", "so it is 5") == 0.9
    assert likeness("", "no") == likeness("a", "b") == 0.0


def test_a_number_of_a_part_of_all_items_is_held_against_the_draw_of_the_part() -> None:
    draw = random.Random(10)
    own = {item: float(draw.random() < 0.6) for item in ITEMS}

    def noise(right: float, n: int, *, part: bool) -> bool:
        claim = read_claim(f"{100 * right / n:.1f}", n)
        goal = Goal("a number", ITEMS, None, claim, same_items=False, part=part)
        gap = gap_of(Frame(goal, ITEMS, trial("base", own, len(ITEMS)), RATE))
        assert gap is not None
        return gap.noise

    shortest = round(210 * (sum(own.values()) / 300 + 0.08))
    assert not noise(shortest, 210, part=True), "8 points more than a random part has"
    assert noise(shortest, 210, part=False), "as other items may have"
    parts = [sum(own[item] for item in draw.sample(ITEMS, 210)) for _ in range(200)]
    assert sum(not noise(right, 210, part=True) for right in parts) <= 6, (
        "1 in 100 would be more than 6 of 200 in 1 of 200 draws"
    )


def test_the_gap_to_a_number_told_of_texts_has_a_test_of_its_own() -> None:
    """Texts that are the base's own (p = 1) and a number 1.7 points below theirs: p = 1 is not that number's."""
    texts = Gap(22 / 1319, 22 / 1319, 1.0, "exact McNemar", 1319)
    told = told_gap(texts, -22 / 1319, 0.05)
    assert told.size == pytest.approx(-22 / 1319)
    assert (told.how, told.noise) == ("symmetric flips", False)
    assert told.p_value == pytest.approx(0.0077, abs=0.002)
    assert told_gap(texts, -5 / 1319, 0.05).noise
