"""Where a vLLM engine's time goes, step by step.

vLLM computes prompt tokens and new tokens in the same steps. With ``enable_logging_iteration_details`` its scheduler says how
many of each a step had (``SchedulerStats.iteration_details``, vLLM 0.32 ``v1/metrics/stats.py``), and ``LLMEngine.step`` hands
that to its ``logger_manager``, whose place a :class:`StepMeter` takes: nothing is logged.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from tulu_eval.backends.base import Usage

ARGUMENTS = {"disable_log_stats": False, "enable_logging_iteration_details": True}
"""What ``vllm.LLM`` is built with so that its steps can be metered."""


def can_meter(arguments: Any) -> bool:
    """Whether a vLLM, known by its dataclass ``EngineArgs``, says what its steps are made of."""
    return {*ARGUMENTS} <= {field.name for field in dataclasses.fields(arguments)}


class StepMeter:
    """Adds up an engine's steps; takes the place of vLLM's own ``logger_manager``.

    The seconds of a step are those since the step before. A step of both kinds is shared out by its tokens, each of which
    costs the same in all matrix products; it is not counted in ``decode_steps``, so the share of memory bandwidth stays a
    lower bound.
    """

    def __init__(self) -> None:
        self._usage = Usage()
        self._since = time.perf_counter()

    def begin(self) -> None:
        """Starts the clock of a job's first step."""
        self._since = time.perf_counter()

    def take(self) -> Usage:
        """Returns what was used since the last call."""
        usage, self._usage = self._usage, Usage()
        return usage

    def record(self, scheduler_stats: Any, iteration_stats: Any = None, mm_cache_stats: Any = None) -> None:
        """Counts a step; vLLM calls it after each one."""
        now = time.perf_counter()
        details = getattr(scheduler_stats, "iteration_details", None)
        if details is None or details.is_dummy:
            return
        prompt, new = details.num_ctx_tokens, details.num_generation_tokens
        seconds, self._since = now - self._since, now
        share = prompt / max(prompt + new, 1)
        self._usage.prefill_tokens += prompt
        self._usage.prefill_seconds += share * seconds
        self._usage.decode_tokens += new
        self._usage.decode_seconds += (1 - share) * seconds
        self._usage.decode_steps += prompt == 0

    def log(self) -> None:
        """Logs nothing; vLLM calls it now and then."""

    def record_sleep_state(self, sleep: int = 0, level: int = 0) -> None:
        """Records nothing; vLLM calls it when the engine is put to sleep or woken."""
