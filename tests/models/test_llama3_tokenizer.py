"""Llama 3's real tokenizer, from the package llama-models: the published prompts in the tokens that Meta's own code gives."""

from __future__ import annotations

import itertools
import statistics
from pathlib import Path
from typing import Any

import pytest
import real_llama3
from real_llama3 import BOS, converted

from tulu_eval.benchmarks.base import Item
from tulu_eval.benchmarks.gsm8k import GSM8K
from tulu_eval.models.tokenizer import PromptWriter

pytestmark = real_llama3.needed


@pytest.fixture(scope="module")
def meta() -> Any:
    """Meta's tokenizer."""
    return real_llama3.metas()


@pytest.fixture(scope="module")
def writer() -> PromptWriter:
    """Writes with a tokenizer of transformers made of Meta's file."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=converted(), bos_token=BOS, eos_token="<|end_of_text|>")
    return PromptWriter(tokenizer, "llama-3", tulu=True)


@pytest.fixture(scope="module")
def prompts(writer: PromptWriter, shared: Path) -> list[str]:
    benchmark = GSM8K()
    items = benchmark.load(benchmark.protocol("published"), shared / "data/gsm8k/test.jsonl")
    return writer.texts([benchmark.render(item) for item in items], [item.id for item in items])


def test_the_published_prompts_have_the_known_lengths(writer: PromptWriter, prompts: list[str]) -> None:
    rows = writer.encode(prompts, prompts)
    shared_tokens = sum(1 for _ in itertools.takewhile(lambda column: len(set(column)) == 1, zip(*rows, strict=False)))
    assert (len(rows), shared_tokens) == (200, 674)
    assert round(statistics.mean(map(len, rows)), 2) == 739.14


def test_the_ids_are_metas_with_one_bos(writer: PromptWriter, meta: Any, prompts: list[str]) -> None:
    bos = meta.special_tokens[BOS]
    for text, row in zip(prompts, writer.encode(prompts, prompts), strict=True):
        assert list(row) == meta.encode(text, bos=True, eos=False)
        assert (row[0], row.count(bos)) == (bos, 1)


def test_several_turns_end_in_llama_3s_own_token(writer: PromptWriter, meta: Any) -> None:
    benchmark = GSM8K().under("lm-eval-cot")
    (text,) = writer.texts([benchmark.render(Item("x", "How many?", "1"))], ["item"])
    (row,) = writer.encode([text], ["item"])
    assert list(row) == meta.encode(text, bos=True, eos=False, allowed_special="all")
    assert row.count(meta.special_tokens["<|end_of_text|>"]) == 8
