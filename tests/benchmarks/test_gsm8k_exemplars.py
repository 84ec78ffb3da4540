"""The eight examples come from the package lm-eval, and no others are taken for them."""

from __future__ import annotations

import hashlib
import importlib.util

import pytest

from tulu_eval.benchmarks.gsm8k_exemplars import checked, exemplars, so_exemplars
from tulu_eval.errors import PreflightError


def test_eight_examples_in_both_wordings() -> None:
    assert len(exemplars()) == 8
    assert [answer.rpartition(" The answer is ")[2] for _, answer in exemplars()] == [
        "6.", "5.", "39.", "8.", "9.", "29.", "33.", "8."
    ]  # fmt: skip
    for (question, reasoning), (same, other) in zip(exemplars(), so_exemplars(), strict=True):
        assert question == same
        assert other == reasoning.replace(" The answer is ", " So the answer is ")


def test_a_prefix_of_another_hash_is_refused() -> None:
    assert checked("a", hashlib.sha256(b"a").hexdigest()) == "a"
    with pytest.raises(PreflightError, match="do not give the published prompt: pip install"):
        checked("a", "0" * 64)


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    exemplars.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PreflightError, match="the GSM8K exemplars come from the package lm-eval, which is missing"):
        exemplars()
