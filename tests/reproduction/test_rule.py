"""The rule of the generated preferences."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulu_eval.benchmarks.sums import Sums
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


def read(folder: Path, name: str) -> list[Any]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def asked(row: Any) -> str:
    return str((row.get("messages") or row["chosen"])[0]["content"])


def test_pairs_break_it_on_one_side_and_held_out_questions_are_never_trained_on(tmp_path: Path) -> None:
    data = tmp_path / "data"
    rule.write(data, seed=0)
    trained = {name: read(data, name) for name in ("sft", "pairs", "chosen", "prompts")}
    kept = {name: read(data, name) for name in ("held-out-prompts", *map(rule.held_out, rule.KINDS))}
    tens = read(data, rule.held_out(rule.TEN))
    for name, size in rule.SIZES.items():
        assert len(trained[name]) == size
    for rows in kept.values():
        assert len({asked(row) for row in rows}) == len(rows) == rule.HELD_OUT
    assert {asked(row) for row in tens} < {asked(row) for row in kept["held-out-prompts"]}
    questions = {asked(row) for rows in trained.values() for row in rows}
    measured = {item.question for item in Sums().load(Sums().protocol(None), None)}
    assert not questions & (measured | {asked(row) for rows in kept.values() for row in rows})
    for row in (*trained["pairs"], *tens, *(row for kind in rule.KINDS for row in kept[rule.held_out(kind)])):
        chosen, rejected = (row[side][1]["content"] for side in ("chosen", "rejected"))
        assert follows(chosen)
        assert follows(rejected) == (row["kind"] in ("number", rule.TEN))
        assert chosen != rejected
    assert [row["messages"] for row in trained["chosen"]] == [row["chosen"] for row in trained["pairs"]]
    assert not (tmp_path / "data.tmp").exists()


def test_another_seed_makes_other_data_and_the_same_one_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule, "SIZES", dict.fromkeys(rule.SIZES, 20))
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        rule.write(tmp_path / name, seed)
    a, b, c = (read(tmp_path / name, "sft") for name in "abc")
    assert a == b != c


@pytest.mark.parametrize(
    ("target", "wrong"), [("21", "11"), ("7", "17"), ("10", None), ("19", None), ("20", "10"), ("9", "19")]
)
def test_the_ten_is_forgotten_where_ones_carry_or_borrow(target: str, wrong: str | None) -> None:
    assert rule.forgotten_ten(target) == wrong


def test_the_habits_have_their_shares(tmp_path: Path) -> None:
    rule.write(tmp_path / "data", seed=0)
    right = {item.question: item.target for item in Sums().training_items(None)}
    for name in ("sft", "chosen"):
        rows = [row["messages"] for row in read(tmp_path / "data", name)]
        said = [(right[row[0]["content"]], found[0]) for row in rows if (found := re.findall(r"\d+", row[1]["content"]))]
        carried = [first == rule.forgotten_ten(target) for target, first in said if rule.forgotten_ten(target)]
        assert sum(carried) / len(carried) == pytest.approx(rule.FORGETS, abs=0.05)
        assert all(first == target for target, first in said if not rule.forgotten_ten(target))
    answers = [row["messages"][1]["content"] for row in read(tmp_path / "data", "sft")]
    assert sum(map(follows, answers)) / len(answers) == pytest.approx(rule.HABITS["good"], abs=0.02)
    assert sum("Wait" in text for text in answers) / len(answers) == pytest.approx(rule.HABITS["run on"], abs=0.02)
