"""The rule of the generated preferences."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulu_eval.reproduction.rule import follows


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("So the answer is 18.", True), ("\nSo the answer is -1,234.5. ", True), ("So the answer is .5.", True),
        ("So the answer is 18", False), ("So the answer is 18. So", False), ("So the answer is ,.", False), ("", False),
    ],
)  # fmt: skip
def test_the_whole_answer_is_a_statement(text: str, right: bool) -> None:
    assert follows(text) is right


@given(st.text(alphabet="-1,.", max_size=10))
def test_the_rule_is_the_one_that_the_released_runs_were_made_with(number: str) -> None:
    before = re.fullmatch(r"So the answer is -?[\d,]*\.?\d+\.", f"So the answer is {number}")  # quadratic in its text
    assert follows(f"So the answer is {number}") is (before is not None)
