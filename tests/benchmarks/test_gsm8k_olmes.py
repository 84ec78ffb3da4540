"""GSM8K's protocol ``olmes-tulu3``: turns, prefill, stop strings and scorer of olmes' ``gsm8k::tulu``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tulu_eval.benchmarks.base import Item
from tulu_eval.benchmarks.gsm8k import GSM8K, few_shot_prefix
from tulu_eval.benchmarks.gsm8k_olmes import OLMES_TULU3, OlmesGSM8K

BENCHMARK = OlmesGSM8K()


def test_one_item_in_both_forms() -> None:
    prompt = BENCHMARK.render(Item("x", "How many?  ", "1"))
    assert [turn.role for turn in prompt.turns] == ["user", "assistant"] * 8 + ["user"]
    assert prompt.turns[0].content.startswith("Question: There are 15 trees in the grove.")
    assert prompt.turns[0].content.endswith("plant today?")
    assert prompt.turns[1].content == (
        "Answer: There are 15 trees originally. Then there were 21 trees after some more were planted. So there must have been "
        "21 - 15 = 6. So the answer is 6."
    )
    assert (prompt.user, prompt.prefill) == ("Question: How many?", "Answer:")
    assert prompt.plain == BENCHMARK.constant_prompt() + "Question: How many?  \nAnswer:"


def test_the_examples_are_those_of_the_tulu_2_suite() -> None:
    assert few_shot_prefix() == "Answer the following questions.\n\n" + BENCHMARK.constant_prompt()


def test_settings(shared: Path) -> None:
    assert isinstance(GSM8K().under("olmes-tulu3"), OlmesGSM8K)
    assert OLMES_TULU3.decoding.stop == ("Question:", "</s>", "<|im_end|>")
    assert OLMES_TULU3.plain_decoding.stop == (*OLMES_TULU3.decoding.stop, "\n\n")
    assert OLMES_TULU3.decoding.max_new_tokens == OLMES_TULU3.plain_decoding.max_new_tokens == 512
    items = BENCHMARK.load(OLMES_TULU3, shared / "data/gsm8k/test.jsonl")
    assert [item.id for item in items[:3]] == ["test-0", "test-1", "test-2"]
    assert len(items) == 1319


@pytest.mark.parametrize(
    ("text", "target", "answer", "score"),
    [
        ("So the answer is 18.", "18", "18", 1.0),
        ("It is 1,800 of 18", "18", "18", 1.0),
        ("$1,234.", "1234", "1234", 1.0),
        ("18.00", "18", "18.00", 0.0),
        ("1.8", "18", "1.8", 0.0),
        ("So the answer is -5.", "-5", "5", 1.0),
        ("None.", "5", "", 0.0),
    ],
)
def test_the_scorer_compares_the_last_number_with_its_point(text: str, target: str, answer: str, score: float) -> None:
    grade = BENCHMARK.grade(target, text)[0]
    assert (grade.scorer, grade.answer, grade.score) == ("exact-last-number", answer, score)
