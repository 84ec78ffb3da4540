"""Texts of special tokens as text, and all else as the model's own tokenizer has it."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from tulu_eval.training.literal import MARK, LiteralTokenizer
from tulu_eval.training.text import render

TURNS = [
    {"role": "user", "content": "Hi,  you – naïve"}, {"role": "assistant", "content": "Yo <tool> it."},
    {"role": "user", "content": "1+1"}, {"role": "assistant", "content": "So the answer is 2."},
]  # fmt: skip


@pytest.mark.parametrize("kind", ["llama3_like", "llama2_like"])
def test_the_same_tokens_where_there_is_no_special_text(kind: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(kind)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<tool>"])
    literal = LiteralTokenizer.of(tokenizer)
    assert literal is not None
    text, spans = render(TURNS, tokenizer.eos_token)
    own = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, offsets = literal.encode(render(TURNS, MARK)[0], tokenizer.eos_token_id)
    assert ids == own["input_ids"]
    assert len(tokenizer) - 1 in ids
    longer = len(MARK) - len(tokenizer.eos_token)
    assert offsets[0] == own["offset_mapping"][0]
    assert offsets[-1][0] == own["offset_mapping"][-1][0] + longer * (len(spans) - 1)


@pytest.mark.parametrize("kind", ["llama3_like", "llama2_like"])
def test_special_texts_are_text(kind: str, request: pytest.FixtureRequest) -> None:
    tokenizer = AutoTokenizer.from_pretrained(request.getfixturevalue(kind))
    literal = LiteralTokenizer.of(tokenizer)
    assert literal is not None
    for text in (tokenizer.eos_token, f"a {tokenizer.bos_token}{tokenizer.eos_token}"):
        ids = literal.encode(text, tokenizer.eos_token_id).ids
        assert not set(ids) & set(tokenizer.all_special_ids)
        assert tokenizer.decode(ids).strip() == text
