"""Which token ids a policy may draw: those that its reward model reads as the same texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from tulu_eval.errors import PreflightError
from tulu_eval.training.rows.shared_tokens import share

NAMES = ("the-policy", "the-rm")


@pytest.fixture
def two(llama3_like: Path) -> tuple[Any, Any]:
    return AutoTokenizer.from_pretrained(llama3_like), AutoTokenizer.from_pretrained(llama3_like)


def test_the_same_tokenizer(two: tuple[Any, Any]) -> None:
    size = len(two[0])
    assert share(*two, NAMES, (size, size)) == (size, ())


def test_a_superset_is_taken_and_its_tokens_are_named(two: tuple[Any, Any]) -> None:
    policy, reward = two
    size = len(policy)
    reward.add_special_tokens({"pad_token": "<pad>"})
    found = share(policy, reward, NAMES, (size, size + 1))
    assert found.size == size
    assert found.notices == (f"the tokenizer of the-rm has tokens that the-policy's has not: '<pad>' (id {size})",)
    wide = share(policy, reward, NAMES, (size + 8, size + 8))
    assert wide.size == size
    assert f"never draws token ids from {size} to {size + 7}" in wide.notices[1]


def test_a_reward_model_with_a_smaller_vocabulary(two: tuple[Any, Any]) -> None:
    size = len(two[0])
    found = share(*two, NAMES, (size + 64, size))
    assert found.size == size
    assert f"never draws token ids from {size} to {size + 63}" in found.notices[0]
    with pytest.raises(PreflightError, match=r"the end token '<\|end_of_text\|>' \(id 1\) is outside the-rm's 1 tokens"):
        share(*two, NAMES, (size, 1))


def test_what_cannot_be_read_is_named(two: tuple[Any, Any], llama2_like: Path) -> None:
    policy, reward = two
    size = len(policy)
    policy.add_tokens(["<tool>"])
    with pytest.raises(PreflightError, match=rf"cannot read the policy's token '<tool>' \(id {size}; there unknown\)"):
        share(policy, reward, NAMES, (size + 1, size))
    other = AutoTokenizer.from_pretrained(llama2_like)
    with pytest.raises(PreflightError, match=r"has another tokenizer than .*\(id 0; there unknown\), .* more"):
        share(reward, other, NAMES, (size, size))


def test_another_end_token(two: tuple[Any, Any]) -> None:
    policy, reward = two
    reward.eos_token = "<|eot_id|>"
    with pytest.raises(PreflightError, match=r"has another end token than the-policy: '<\|eot_id\|>', and not '<\|end_of_text"):
        share(policy, reward, NAMES, (len(policy), len(policy)))


def test_the_same_tokens_cut_otherwise(two: tuple[Any, Any]) -> None:
    from tokenizers import normalizers

    policy, reward = two
    reward.backend_tokenizer.normalizer = normalizers.Lowercase()
    with pytest.raises(PreflightError, match="both know the same tokens, and cut a text otherwise"):
        share(policy, reward, NAMES, (len(policy), len(policy)))
