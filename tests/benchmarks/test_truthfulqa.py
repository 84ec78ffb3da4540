"""TruthfulQA against the golden prompts, and MC1 and MC2 against the original's arithmetic."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tulu_eval.benchmarks.base import Item
from tulu_eval.benchmarks.truthfulqa import CONSTANT, PRESET, GeneratedTruthfulQA, TruthfulQA, references
from tulu_eval.errors import DataError, PreflightError
from tulu_eval.records import Decoding, Grade, Likelihood
from tulu_eval.registry import load_suite
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.prompts import PromptSource
from tulu_eval.runs.reading import read_run
from tulu_eval.runs.run_plan import Order, make_plan
from tulu_eval.runs.runner import execute
from tulu_eval.testing import ScriptedBackend

TARGET = '{"best":"b.","true":["a.","b.","b."],"false":["c.","a."]}'


@pytest.fixture(scope="module")
def data(shared: Path) -> Path:
    return shared / "data/suite/truthfulqa/TruthfulQA.csv"


@pytest.fixture(scope="module")
def items(data: Path) -> list[Item]:
    return TruthfulQA().load(TruthfulQA().protocol(None), data)


@pytest.mark.parametrize(("protocol", "name"), [("mc", "truthfulqa_mc_tulu.json"), ("generation", "truthfulqa_gen_tulu.json")])
def test_the_published_prompts_byte_for_byte(shared: Path, data: Path, items: list[Item], protocol: str, name: str) -> None:
    expected = json.loads((shared / "data/suite/golden" / name).read_text(encoding="utf-8"))
    benchmark = TruthfulQA().under(protocol)
    assert benchmark.load(benchmark.protocol(protocol), data) == items
    prompts = [benchmark.render(item) for item in items]
    texts = [f"<|user|>\n{one.user}\n<|assistant|>\n{one.prefill}" for one in prompts]
    assert [item.id for item in items] == [f"question-{one['id']}" for one in expected["items"]]
    assert [hashlib.sha256(one.encode()).hexdigest() for one in texts] == [one["sha256"] for one in expected["items"]]
    assert hashlib.sha256("\0".join(texts).encode()).hexdigest() == expected["combined_sha256"]
    assert all(one.plain == one.user + ("\nA:" if protocol == "mc" else "") for one in prompts)


def test_the_preset_is_the_original_s() -> None:
    assert len(PRESET) == 573
    assert hashlib.sha256(PRESET.encode()).hexdigest().startswith("5c0da5f3")
    for benchmark in (TruthfulQA(), GeneratedTruthfulQA()):
        assert benchmark.constant_prompt() == CONSTANT
    assert {one.prompt_id for one in TruthfulQA.protocols.values()} == {hashlib.sha256(CONSTANT.encode()).hexdigest()[:8]}


def test_the_references_are_the_facts_numbers(items: list[Item]) -> None:
    found = [references(item.target) for item in items]
    texts = [TruthfulQA().continuations(item) for item in items]
    assert sum(map(len, texts)) == 6209
    sides = [(one.true, one.false) for one in found]
    assert sum(any(len(set(side)) < len(side) for side in both) for both in sides) == 3
    assert sum(bool(set(one.true) & set(one.false)) for one in found) == 2
    assert all(one.best in one.true and one.false for one in found)
    assert all(text.startswith(" ") and text.endswith(".") and text.strip() == text[1:] for one in texts for text in one)


def original(totals: dict[str, float], best: str, true: Sequence[str], false: Sequence[str]) -> tuple[float, float]:
    """MC1 and MC2 as ``metrics.py`` has them."""
    scores_true, scores_false = [totals[one] for one in true], [totals[one] for one in false]
    mc1 = 1.0 if scores_true[list(true).index(best)] > max(scores_false) else 0.0
    probs_true, probs_false = np.exp(scores_true), np.exp(scores_false)
    return mc1, float(sum(probs_true / (sum(probs_true) + sum(probs_false))))


def test_all_questions_are_scored_as_the_original_scores_them(items: list[Item]) -> None:
    draws = random.Random(5)
    mc1s = []
    for item in items:
        texts = TruthfulQA().continuations(item)
        drawn = {text: tuple(-draws.expovariate(0.2) for _ in range(draws.randint(1, 4))) for text in dict.fromkeys(texts)}
        mc1, mc2 = TruthfulQA().grade_likelihoods(item.target, [Likelihood(text, drawn[text]) for text in texts])
        refs = references(item.target)
        expected = original({text[1:]: sum(values) for text, values in drawn.items()}, refs.best, refs.true, refs.false)
        assert mc1.score == expected[0]
        assert mc2.score == pytest.approx(expected[1], rel=1e-9)
        assert (mc1.weight, mc2.weight) == (1.0, 1.0)
        mc1s.append(mc1.score)
    assert 0 < sum(mc1s) < 817


def graded(**totals: float) -> tuple[Grade, ...]:
    texts = ["a", "b", "b", "c", "a"]
    return TruthfulQA().grade_likelihoods(TARGET, [Likelihood(f" {one}.", (totals[one],)) for one in texts])


def test_repeated_references_count_as_often_and_a_text_on_both_sides_is_both() -> None:
    assert [grade.score for grade in graded(a=-1.0, b=-1.0, c=-1.0)] == [0.0, pytest.approx(3 / 5)]
    assert graded(a=-9.0, b=-1.0, c=-1.5)[0].score == 1.0
    assert graded(a=-9.0, b=-1.0, c=-0.5) == (
        Grade("mc1", "c.", True, 0.0), Grade("mc2", "c.", True, graded(a=-9.0, b=-1.0, c=-0.5)[1].score)
    )  # fmt: skip


def test_very_unlikely_references_have_a_score_all_the_same() -> None:
    """Their probabilities are 0 in float64, of which the original makes no number."""
    assert graded(a=-2000.0, b=-1000.0, c=-1000.0)[1].score == pytest.approx(2 / 3)


def test_a_failure_is_wrong_and_a_text_alone_is_not_graded() -> None:
    assert TruthfulQA().grade_failed(TARGET) == (Grade("mc1", "", False, 0.0), Grade("mc2", "", False, 0.0))
    with pytest.raises(DataError, match="truthfulqa mc: is graded by likelihoods of references, and there is only a text"):
        TruthfulQA().grade(TARGET, "b.")
    with pytest.raises(DataError, match="an item's references"):
        references('{"best": "x"}')


def test_what_is_no_file_of_truthfulqa(data: Path, tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match=r"truthfulqa needs --data FILE: TruthfulQA\.csv as github"):
        TruthfulQA().load(TruthfulQA().protocol(None), None)
    other = tmp_path / "TruthfulQA.csv"
    text = data.read_text(encoding="utf-8")
    other.write_text(text.replace("watermelon", "melon", 1), encoding="utf-8")
    with pytest.raises(DataError, match=r"TruthfulQA\.csv: has other questions or answers than the 817 of TruthfulQA; take"):
        TruthfulQA().load(TruthfulQA().protocol(None), other)
    other.write_text("Question\nWho?\n")
    with pytest.raises(DataError, match="has 1 rows, not the 817"):
        GeneratedTruthfulQA().load(TruthfulQA().protocol("generation"), other)
    other.write_text("Question\n" + "x" * 200_000)
    with pytest.raises(DataError, match="cannot be read as CSV: field larger than"):
        TruthfulQA().load(TruthfulQA().protocol(None), other)


def test_multiple_choice_of_a_tiny_model(data: Path, order: Order) -> None:
    plan = make_plan(dataclasses.replace(order, benchmark="truthfulqa", protocol=None, data=data, limit=4), load_suite())
    run = read_run(execute(plan, Progress(quiet=True)).folder)
    assert not run.doubts
    assert [(row.scorer, row.metric, row.n, row.n_protocol, row.interval) for row in run.results] == [
        ("mc1", "mc1", 4, 817, "wilson95"), ("mc2", "mc2", 4, 817, "clustered95")
    ]  # fmt: skip
    expected = []
    for sample in run.samples():
        refs = references(sample.target)
        totals = {one.text[1:]: one.total for one in sample.completion.likelihoods}
        top = max(totals.values())
        expected.append(original({text: one - top for text, one in totals.items()}, refs.best, refs.true, refs.false))
    assert [row.value for row in run.results] == [pytest.approx(25 * sum(one)) for one in zip(*expected, strict=True)]
    assert PromptSource({"truthfulqa": data}).prompts(run, list(run.samples())).proven


def test_generated_answers_are_kept_and_counted(data: Path, order: Order) -> None:
    asked = dataclasses.replace(order, benchmark="truthfulqa", protocol="generation", data=data, limit=2)
    plan = make_plan(asked, load_suite())
    assert plan.decoding == Decoding(50)

    def answer(request: Any, decoding: Decoding) -> str:
        return " A: It is.\n\nQ: Why?" if "watermelon" in request.text else " "

    scripted = ScriptedBackend.of(answer, name="transformers")
    run = read_run(execute(dataclasses.replace(plan, backend=scripted), Progress(quiet=True)).folder)
    assert [sample.completion.text for sample in run.samples()] == [" A: It is.\n\nQ: Why?", " "]
    assert [(row.scorer, row.metric, row.value) for row in run.results] == [("answered", "answered", 50.0)]
