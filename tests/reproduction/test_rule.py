"""The rule of the generated preferences."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulu_eval.benchmarks.gsm_symbolic import SEED, SIZE, generate
from tulu_eval.reproduction import rule
from tulu_eval.reproduction.rule import follows


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("So the answer is 18.", True), ("\nSo the answer is -1,234.5. ", True), ("So the answer is .5.", True),
        ("So the answer is 18", False), ("So the answer is 18. So", False), ("So the answer is ,.", False), ("", False),
        ("So the answer is.", False), ("the answer is 12.", False), ("That is hard to say.", False),
    ],
)  # fmt: skip
def test_the_whole_answer_is_a_statement(text: str, right: bool) -> None:
    assert follows(text) is right


@given(st.text(alphabet="-1,.", max_size=10))
def test_the_rule_is_the_one_that_the_released_runs_were_made_with(number: str) -> None:
    before = re.fullmatch(r"So the answer is -?[\d,]*\.?\d+\.", f"So the answer is {number}")  # quadratic in its text
    assert follows(f"So the answer is {number}") is (before is not None)


def test_pairs_break_it_on_one_side_and_never_show_a_question_of_the_benchmark(tmp_path: Path) -> None:
    rule.write(tmp_path / "data")
    tested = {item.question for item in generate(SIZE, SEED)}
    for name in rule.SIZES:
        rows = [json.loads(line) for line in (tmp_path / "data" / f"{name}.jsonl").read_text().splitlines()]
        assert 0.9 * rule.SIZES[name] < len(rows) <= rule.SIZES[name]
        asked = {(row.get("messages") or row["chosen"])[0]["content"] for row in rows}
        assert not asked & tested
        for row in rows:
            if "chosen" in row:
                chosen, rejected = (row[side][1]["content"] for side in ("chosen", "rejected"))
                assert follows(chosen)
                assert follows(rejected) == (row["kind"] == "number")
                assert chosen != rejected
    left_out = json.loads((tmp_path / "data" / rule.LEFT_OUT).read_text())
    assert sum(left_out.values()) > 0
    assert not (tmp_path / "data.tmp").exists()
