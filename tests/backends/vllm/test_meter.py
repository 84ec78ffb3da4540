"""The meter of an engine's steps, fed with what vLLM's scheduler says; and the real one through a run (in test_backend.py)."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from tulu_eval.backends.base import EngineSettings, Usage
from tulu_eval.backends.vllm import meter as vllm_meter
from tulu_eval.backends.vllm.backend import VllmBackend


def stats(prompt: int, new: int, dummy: bool = False) -> Any:
    return SimpleNamespace(iteration_details=SimpleNamespace(num_ctx_tokens=prompt, num_generation_tokens=new, is_dummy=dummy))


def test_a_step_of_both_kinds_is_shared_out_by_its_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 4.0, 6.0, 7.0])
    monkeypatch.setattr(vllm_meter, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    meter = vllm_meter.StepMeter()
    meter.record(scheduler_stats=stats(30, 10), iteration_stats=None, mm_cache_stats=None)
    meter.record(scheduler_stats=stats(0, 32))
    assert meter.take() == Usage(30, 3.0, 42, 3.0, 1)
    assert meter.take() == Usage()
    meter.begin()


def test_what_says_nothing_counts_nothing() -> None:
    meter = vllm_meter.StepMeter()
    meter.record(scheduler_stats=SimpleNamespace(iteration_details=None), iteration_stats=iteration(10, 1, 4))
    meter.record(scheduler_stats=stats(5, 5, dummy=True))
    meter.record(scheduler_stats=SimpleNamespace())
    assert meter.take() == Usage()


def iteration(computed: int, first: int, new: int) -> Any:
    """What vLLM 0.24 says of a step: prompt tokens computed, prompts that it ended, tokens that came out of it."""
    return SimpleNamespace(
        prompt_token_stats=SimpleNamespace(computed=computed),
        time_to_first_tokens_iter=[0.1] * first,
        num_generation_tokens=new,
    )


def test_a_vllm_without_details_is_metered_by_what_came_out(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 4.0, 6.0, 7.0])
    monkeypatch.setattr(vllm_meter, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    meter = vllm_meter.StepMeter()
    meter.record(scheduler_stats=SimpleNamespace(), iteration_stats=iteration(30, first=2, new=12))
    meter.record(scheduler_stats=SimpleNamespace(), iteration_stats=iteration(0, first=0, new=32))
    assert meter.take() == Usage(30, 3.0, 42, 3.0, 1)


def test_the_engine_is_asked_for_what_it_can_say() -> None:
    new = dataclasses.make_dataclass("EngineArgs", [("enable_logging_iteration_details", bool), ("disable_log_stats", bool)])
    old = dataclasses.make_dataclass("EngineArgs", [("disable_log_stats", bool)])
    says, silent = (dataclasses.make_dataclass("SchedulerStats", [(name, int)]) for name in ("iteration_details", "other"))
    assert vllm_meter.arguments(new, says) == {"disable_log_stats": False, "enable_logging_iteration_details": True}
    assert vllm_meter.arguments(new, silent) == vllm_meter.arguments(old, says) == {"disable_log_stats": False}


def test_seconds_are_those_of_engines_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    engines: Any = [SimpleNamespace(send=lambda order: None) for _ in range(2)]
    done: Any = SimpleNamespace(number=1, last=True, usage=Usage(100, 2.0, 50, 4.0, 5))
    monkeypatch.setattr("tulu_eval.backends.vllm.backend.incoming", lambda working: [(one, done) for one in list(working)])
    backend = VllmBackend(engines, {}, 64, None, EngineSettings())
    asked: Any = [SimpleNamespace(key=str(place)) for place in range(64)]
    assert len(list(backend._answers(asked, lambda job, share: share))) == 2
    assert backend.usage() == Usage(200, 2.0, 100, 4.0, 10)
