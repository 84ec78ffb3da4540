"""A machine's rates: measured once, kept in the cache, and measured anew where a run did better."""

from __future__ import annotations

from typing import Any

import pytest

from tulu_eval.runs import rates
from tulu_eval.runs.rates import NOTHING_DONE, Rates


def test_rates_are_measured_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = rates.machine_rates("cpu", "float32", NOTHING_DONE)
    monkeypatch.setattr(rates, "measure_rates", lambda device, dtype: pytest.fail("measured again"))
    assert rates.machine_rates("cpu", "float32", first) == first
    assert first.flops > 1e8
    assert first.bytes > 1e8


def test_a_run_that_did_more_has_them_measured_again_and_the_better_ones_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """A rate of a busy machine must not stay, nor one of an idle machine be lost."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(rates, "measure_rates", lambda device, dtype: Rates(1e12, 9e9))
    assert rates.machine_rates("cpu", "float32", NOTHING_DONE) == Rates(1e12, 9e9)
    monkeypatch.setattr(rates, "measure_rates", lambda device, dtype: Rates(3e12, 8e9))
    assert rates.machine_rates("cpu", "float32", Rates(1e12, 9e9)) == Rates(1e12, 9e9)
    assert rates.machine_rates("cpu", "float32", Rates(2e12, 1e9)) == Rates(3e12, 9e9)
    monkeypatch.setattr(rates, "measure_rates", lambda device, dtype: pytest.fail("measured again"))
    assert rates.machine_rates("cpu", "float32", Rates(3e12, 9e9)) == Rates(3e12, 9e9)


def test_kept_rates_of_auto_are_those_of_the_device_that_it_means(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(rates, "resolve_device", lambda name: "cpu")
    monkeypatch.setattr(rates, "measure_rates", lambda device, dtype: Rates(1e12, 9e9))
    kept = rates.machine_rates("cpu", "float32", NOTHING_DONE)
    monkeypatch.setattr(rates, "measure_rates", lambda device, dtype: pytest.fail("measured again"))
    assert rates.machine_rates("auto", "float32", NOTHING_DONE) == kept
