"""Which way of scoring gives the number that is told beside texts: on made-up samples, without a model."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest

from tulu_eval.benchmarks.gsm8k import GSM8K
from tulu_eval.findings.claims import read_claim
from tulu_eval.findings.explaining.base_and_goal import Goal
from tulu_eval.findings.explaining.scoring_rule import Rule
from tulu_eval.findings.explaining.told_scoring import ToldScoring, read_scoring
from tulu_eval.records import Completion
from tulu_eval.runs.grading import Grader
from tulu_eval.store.sample_line import Sample

SIZE = 300
CHANCE = 0.02
"""Flips that are no effect, as a share of all items."""

FORMS = (
    ("The answer is {}.", 0.3), ("So the answer is {}.", 0.2), ("It is {} dollars...", 0.15), ("#### {}", 0.1),
    ("The answer is {}. I checked it 2 times.", 0.15), ("I do not know.", 0.1),
)  # fmt: skip


def samples() -> dict[str, Sample]:
    draw = random.Random(3)
    found = {}
    for at in range(SIZE):
        form = draw.choices([form for form, _ in FORMS], [share for _, share in FORMS])[0]
        text = form.format(at if draw.random() < 0.8 else at + 1)
        made = Completion(f"key-{at}", text, (), "stop", 0.0)
        found[f"gsm8k-{at}"] = Sample(f"gsm8k-{at}", str(at), "", made, "ok", tuple(GSM8K().grade(str(at), text)))
    return found


@pytest.fixture
def base() -> Any:
    benchmark = GSM8K()
    grader = Grader(benchmark, None)
    return SimpleNamespace(
        benchmark=benchmark, protocol=benchmark.protocol("full"), rule=Rule(grader, "last-number", None), plan=None
    )


def number(base: Any, texts: dict[str, Sample], scorer: str) -> str:
    scores = [next(one.score for one in sample.grades if one.scorer == scorer) for sample in texts.values()]
    return f"{100 * sum(scores) / len(scores):.1f}"


def read(base: Any, texts: dict[str, Sample], printed: str, n: int = SIZE) -> ToldScoring:
    claim = read_claim(printed, n)
    return read_scoring(base, Goal("made up", tuple(texts), {}, claim, samples=texts), claim, CHANCE)


def test_the_scorer_is_told_by_the_number(base: Any) -> None:
    texts = samples()
    found = read(base, texts, number(base, texts, "stated-answer"))
    assert [way.trial.name for way in found.fitting] == [("by-stated-answer",)]
    assert found.sure
    assert found.rest == pytest.approx(found.fitting[0].number - found.own, abs=0.001)


def test_items_that_are_left_out_are_told_by_number_and_count(base: Any) -> None:
    texts = samples()
    kept = [one for one in texts.values() if one.grades[0].answer]
    assert len(kept) < SIZE
    right = sum(one.grades[0].score for one in kept)
    found = read(base, texts, f"{100 * right / len(kept):.1f}", len(kept))
    assert [way.trial.name for way in found.fitting] == [("no-answer-left-out",)]


def test_the_own_way_and_what_chance_gives_need_no_other(base: Any) -> None:
    texts = samples()
    own = number(base, texts, "last-number")
    assert (read(base, texts, own).rest, read(base, texts, own).fitting) == (0.0, ())
    near = f"{float(own) + 1.0:.1f}"
    assert read(base, texts, near).fitting == ()


def test_no_way_is_told_of_a_number_that_only_two_at_once_give_or_none(base: Any) -> None:
    """Among many pairs, one often gives the told number by chance; then no pair is named."""
    texts = samples()
    ways = read(base, texts, "0.0").ways
    single = {round(way.number * way.n) for way in ways if len(way.trial.name) == 1 and way.n == SIZE}
    own = round(read(base, texts, "0.0").own * SIZE)
    for count in range(0, SIZE, 7):
        found = read(base, texts, f"{100 * count / SIZE:.1f}")
        assert found.sure == (count in single and abs(count - own) > CHANCE * SIZE)
