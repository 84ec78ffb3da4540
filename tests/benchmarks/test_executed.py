"""A benchmark of programs of twenty lines, graded in the sandbox."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from tulu_eval.benchmarks.base import Item, Prompt, Protocol
from tulu_eval.benchmarks.executed import ExecutedBenchmark, answer_of
from tulu_eval.errors import PreflightError
from tulu_eval.sandbox import Execution, Limits, Outcome, check_sandbox


class Assertions(ExecutedBenchmark):
    """An answer is an expression; it is right if it equals the target."""

    name: ClassVar[str] = "assertions"
    scorers: ClassVar[tuple[str, ...]] = ("equal", "same")
    protocols: ClassVar[Mapping[str, Protocol]] = {}
    limits: ClassVar[Limits] = Limits(seconds=2)

    def program(self, target: str, text: str) -> str:
        return f"assert ({text}) == {target}"

    def load(self, protocol: Protocol, data: Path | None) -> list[Item]:
        return []

    def render(self, item: Item) -> Prompt:
        return Prompt(item.question, "", item.question)


def test_programs_are_graded_in_order_and_by_every_scorer() -> None:
    try:
        check_sandbox(Execution())
    except PreflightError as error:
        pytest.skip(str(error))
    found = list(Assertions().grade_all([("3", "1 + 2"), ("3", "4"), ("[0]", "__import__('numpy').zeros(1)"), ("3", "(")]))
    assert [[grade.score for grade in grades] for grades in found] == [[1, 1], [0, 0], [1, 1], [0, 0]]
    assert [grades[0].answer.partition(":")[0] for grades in found] == ["passed", "failed", "passed", "failed"]
    assert Assertions().grade("1", "1")[0].score == 1


def test_an_answer_that_is_not_there_is_wrong_and_runs_nothing() -> None:
    assert [(one.scorer, one.answered, one.score) for one in Assertions().grade_failed("3")] == [
        ("equal", False, 0.0), ("same", False, 0.0),
    ]  # fmt: skip


def test_the_same_failure_has_the_same_words() -> None:
    first, second = (Outcome("failed", f"TypeError: <f at {place}>", 0.1) for place in ("0x7f01", "0x7f02"))
    assert answer_of(first) == answer_of(second) == "failed: TypeError: <f at 0x>"
