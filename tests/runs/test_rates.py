"""A machine's rates: measured once, kept in the cache, and measured anew where a run did better."""

from __future__ import annotations

import os
from pathlib import Path
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


@pytest.mark.parametrize(
    "kept", ['{"flops": 5.0, "bytes": 0.0}', '{"flops": 1e308, "bytes": 1e308}', '{"flops": 1e-320, "bytes": 1e-320}', "[]", ""]
)
def test_kept_rates_that_no_device_has_are_measured_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kept: str) -> None:
    """A reading of zero bytes per second would end every estimate in a division by zero, a huge one in 0 s."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(rates, "measure_rates", lambda device, dtype: Rates(1e12, 9e9))
    rates.machine_rates("cpu", "float32", NOTHING_DONE)
    (path,) = tmp_path.rglob("*.json")
    path.write_text(kept)
    assert rates.machine_rates("cpu", "float32", NOTHING_DONE) == Rates(1e12, 9e9)


def test_a_job_with_fewer_cores_has_rates_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Slurm gives jobs on one node different numbers of cores."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(rates, "measure_rates", lambda device, dtype: Rates(3e12, 9e9))
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)), raising=False)
    rates.machine_rates("cpu", "float32", NOTHING_DONE)
    monkeypatch.setattr(rates, "measure_rates", lambda device, dtype: Rates(1e12, 9e9))
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
    assert rates.machine_rates("cpu", "float32", NOTHING_DONE) == Rates(1e12, 9e9)


def test_two_gpus_of_one_number_have_rates_of_their_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nodes that share a home folder may have the same processor and other GPUs."""
    import torch

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(rates, "resolve_device", lambda name: name)
    for name, found in (("NVIDIA H200", Rates(7e14, 4e12)), ("NVIDIA L4", Rates(1e14, 3e11))):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device, name=name: name)
        monkeypatch.setattr(rates, "measure_rates", lambda device, dtype, found=found: found)
        assert rates.machine_rates("cuda:0", "bfloat16", NOTHING_DONE) == found
