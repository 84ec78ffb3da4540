"""Bars of other packages go away for a while, and come back."""

from __future__ import annotations

import pytest
from huggingface_hub.utils.tqdm import are_progress_bars_disabled
from transformers.utils import logging

from tulu_eval.api.silence import silence


def test_bars_go_away_and_come_back() -> None:
    with silence(True):
        assert are_progress_bars_disabled()
        assert not logging.is_progress_bar_enabled()
    assert not are_progress_bars_disabled()
    assert logging.is_progress_bar_enabled()


def test_bars_stay_where_they_are_wanted() -> None:
    with silence(False):
        assert not are_progress_bars_disabled()


def test_a_caller_who_took_them_away_finds_them_away() -> None:
    logging.disable_progress_bar()
    try:
        with silence(True):
            pass
        assert are_progress_bars_disabled()
        assert not logging.is_progress_bar_enabled()
    finally:
        logging.enable_progress_bar()


def test_an_error_brings_them_back() -> None:
    with pytest.raises(KeyError), silence(True):
        raise KeyError
    assert logging.is_progress_bar_enabled()
