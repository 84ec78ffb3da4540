"""Continuations are encoded as they would be behind the whole prompt, and what cannot be is refused."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest

from tulu_eval.errors import PreflightError
from tulu_eval.models.continuations import TAIL, encode_continuations
from tulu_eval.models.tokenizer import PromptWriter, load_tokenizer

PROMPTS = ["Ann has 3 pens.\nAnswer:", "He said: \n\n" + "many words, " * 60 + "\nQ: who?\nA:", "x" * (TAIL + 50) + " is"]
TEXTS = (" A", " 42 pens", "\nNo.", " Yes, it is.\nAnd more.", " é")


@pytest.fixture
def writer(llama3_like: Path) -> PromptWriter:
    return PromptWriter(load_tokenizer(llama3_like, "m", False), "m", tulu=False)


def names(prompts: Sequence[str]) -> list[str]:
    return [f"item {number}" for number in range(len(prompts))]


def test_they_are_the_tokens_behind_the_prompt_s(writer: PromptWriter) -> None:
    rows = writer.encode(PROMPTS, names(PROMPTS))
    found = encode_continuations(writer, list(zip(PROMPTS, rows, strict=True)), [TEXTS] * len(PROMPTS), names(PROMPTS))
    for prompt, row, ends in zip(PROMPTS, rows, found, strict=True):
        whole = writer.encode([prompt + text for text in TEXTS], names(TEXTS))
        assert [row + end.token_ids for end in ends] == whole
        assert [end.text for end in ends] == list(TEXTS)


def test_only_a_prompt_s_end_is_encoded_again(writer: PromptWriter) -> None:
    seen: list[str] = []

    class Counting:
        def encode(self, texts: Sequence[str], names: Sequence[str]) -> list[tuple[int, ...]]:
            seen.extend(texts)
            return writer.encode(texts, names)

    prompt = "Some words and numbers 12, 13. " * 100 + "\nAnswer:"
    (row,) = writer.encode([prompt], ["p"])
    encode_continuations(Counting(), [(prompt, row)], [(" A", " B")], ["p"])
    assert max(map(len, seen)) == TAIL + 2


def test_a_tokenizer_that_joins_words_gives_the_same_tokens_or_refuses(llama2_like: Path) -> None:
    writer = PromptWriter(load_tokenizer(llama2_like, "m", False), "m", tulu=False)
    refused = 0
    for prompt, text in itertools.product(PROMPTS, TEXTS):
        whole, row = writer.encode([prompt + text, prompt], ["whole", "prompt"])
        try:
            ((end,),) = encode_continuations(writer, [(prompt, row)], [(text,)], ["p"])
        except PreflightError:
            refused += 1
            assert whole[: len(row)] != row
        else:
            assert row + end.token_ids == whole
    assert 0 < refused < len(PROMPTS) * len(TEXTS)


def test_a_shared_token_and_a_text_without_a_token_are_refused(writer: PromptWriter) -> None:
    prompt = "So the ans"
    (row,) = writer.encode([prompt], ["p"])
    with pytest.raises(PreflightError, match="item p: the continuation 'wer is 3' shares a token with the prompt's end"):
        encode_continuations(writer, [(prompt, row)], [("wer is 3",)], ["item p"])
    with pytest.raises(PreflightError, match="makes no token of the continuation ''"):
        encode_continuations(writer, [(prompt, row)], [("",)], ["item p"])
