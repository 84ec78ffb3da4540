"""The scorers of GSM8K against the extraction goldens, and on texts of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulu_eval.benchmarks.gsm8k import GSM8K
from tulu_eval.benchmarks.gsm8k_scorers import (
    extract_last_number,
    grade_hash_answer,
    grade_last_number,
    grade_stated_answer,
)


def test_extraction_goldens(shared: Path) -> None:
    cases = json.loads((shared / "data/gsm8k/gsm8k_extraction_golden.json").read_text())["cases"]
    assert len(cases) == 25
    for case in cases:
        found = extract_last_number(case["output"])
        assert (case["output"] if found is None else found) == case["prediction"]
        assert grade_last_number(case["reference"], case["output"]).score == float(case["correct"])


@pytest.mark.parametrize(
    ("text", "target", "answer", "score"),
    [
        ("So the answer is 18.", "18", "18", 1.0),
        ("So the answer is 18.00.", "18", "18", 1.0),
        ("So the answer is -10.", "-10", "-10", 1.0),
        ("So the answer is -10.", "10", "-10", 0.0),
        ("So the answer is $1,234.", "1234", "1234", 1.0),
        ("The answer is **7**.", "7", "7", 1.0),
        ("The answer is: \\(7\\)", "7", "7", 1.0),
        ("So the answer is 8. So 2 apples", "8", "8", 1.0),
        ("So the answer is 8.\n\nQuestion: And?\nAnswer: So the answer is 9.", "8", "8", 1.0),
        ("\n\nQuestion: And?\nAnswer: So the answer is 9.", "9", "", 0.0),
        ("It is 9.", "9", "", 0.0),
        ("", "0", "", 0.0),
    ],
)
def test_stated_answer(text: str, target: str, answer: str, score: float) -> None:
    grade = grade_stated_answer(target, text)
    assert (grade.answer, grade.score, grade.answered) == (answer, score, bool(answer))


@given(st.text())
def test_both_scorers_take_any_text(text: str) -> None:
    for grade in GSM8K().grade("18", text):
        assert grade.score in (0.0, 1.0)
        assert grade.answered or grade.score == 0.0


@given(st.integers(0, 10**9), st.text(alphabet=st.characters(exclude_categories=["Nd", "Nl", "No"]), max_size=20))
def test_a_whole_number_is_found_behind_any_words(number: int, words: str) -> None:
    text = f"{words} the answer is {number:,} {words}"
    assert grade_last_number(str(number), text).score == 1.0
    assert grade_stated_answer(str(number), f"So the answer is {number:,}.").score == 1.0


@pytest.mark.parametrize(
    ("text", "answer", "score"),
    [
        ("12 + 6 = <<12+6=18>>18\n#### 18", "18", 1.0),
        ("#### 18\n\n#### 19", "18", 1.0),
        ("#### 19\n\n#### 18", "19", 0.0),
        ("#### 18.", "18.", 0.0),
        ("#### 18.00", "18.00", 0.0),
        ("#### 1,8", "18", 1.0),
        ("#### $18", "", 0.0),
        ("####18", "", 0.0),
        ("So the answer is 18.", "", 0.0),
    ],
)
def test_hash_answer(text: str, answer: str, score: float) -> None:
    grade = grade_hash_answer("18", text)
    assert (grade.answer, grade.score, grade.answered) == (answer, score, bool(answer))
