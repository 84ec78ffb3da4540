"""Short questions for tests, in the published form."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tulu_eval.judging.judge_recipe import JudgeRecipe, Message, Pair

TEMPLATE = (
    Message("system", "You choose."),
    Message("user", "Task: {instruction}\nm: {output_1}\nM: {output_2}\nBest:"),
)


def make_recipe(method: str = "logprobs", judge: str = "loopback-judge") -> JudgeRecipe:
    """The published settings with a short prompt for tests."""
    parameters: dict[str, Any] = {"max_tokens": 1, "temperature": 1, "logprobs": True, "top_logprobs": 5, "top_p": 1.0}
    if method == "text":
        parameters = {"max_completion_tokens": 4096}
    return JudgeRecipe(judge, method, TEMPLATE, "0" * 64, parameters)  # type: ignore[arg-type]


def make_pairs(n: int, word: Callable[[int], str] = lambda place: "") -> list[Pair]:
    return [Pair(f"pair-{at}", f"question {at}", f"baseline {at}", f"output {at} {word(at)}") for at in range(n)]


@pytest.fixture
def recipe() -> JudgeRecipe:
    return make_recipe()


@pytest.fixture
def recipes() -> Callable[..., JudgeRecipe]:
    return make_recipe


@pytest.fixture
def pairs() -> Callable[..., list[Pair]]:
    return make_pairs


@pytest.fixture
def cache_path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "judge.jsonl"
