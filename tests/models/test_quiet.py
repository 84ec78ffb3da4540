"""A model is read and written without a bar of transformers."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM
from transformers import modeling_gguf_pytorch_utils as reading
from transformers.utils import logging

from tulu_eval.models.quiet import converting, without_bars


def test_a_model_is_read_and_written_without_a_bar(
    llama3_like: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging, "_tqdm_active", True)
    with without_bars():
        AutoModelForCausalLM.from_pretrained(llama3_like).save_pretrained(tmp_path)
    assert "it/s" not in capfd.readouterr().err
    assert logging.is_progress_bar_enabled()
    AutoModelForCausalLM.from_pretrained(llama3_like)
    assert "it/s" in capfd.readouterr().err, "the bar that is switched off"


def test_bars_that_were_off_stay_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "_tqdm_active", False)
    with without_bars():
        pass
    assert not logging.is_progress_bar_enabled()


def test_a_conversion_draws_nothing_into_a_pipe(capfd: pytest.CaptureFixture[str]) -> None:
    with converting("small.gguf"):
        assert list(reading.tqdm([1, 2], desc="Converting")) == [1, 2]
    assert capfd.readouterr().err == ""
    assert list(reading.tqdm([1, 2], desc="Converting")) == [1, 2]
    assert "Converting" in capfd.readouterr().err, "the bar that is replaced"
