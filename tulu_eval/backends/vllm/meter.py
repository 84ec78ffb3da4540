"""Where a vLLM engine's time goes, step by step.

vLLM computes prompt tokens and new tokens in the same steps. ``LLMEngine.step`` hands its ``logger_manager``, whose place a
:class:`StepMeter` takes, what a step was made of; nothing is logged. In 0.32 the scheduler itself says how many tokens of
each kind a step computed (``SchedulerStats.iteration_details`` in vLLM's ``v1/metrics/stats.py``, with
``enable_logging_iteration_details``). In 0.24 only ``IterationStats`` is there, which counts a prompt's
computed tokens at the step that ends its prefill: a prompt that takes several steps is counted at the last of them.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from tulu_eval.backends.base import Usage

_DETAILS = "enable_logging_iteration_details"


def arguments(engine_arguments: Any, scheduler_stats: Any) -> dict[str, Any]:
    """Returns what ``vllm.LLM`` is built with so that its steps can be metered, from vLLM's dataclasses of these names."""
    known = {field.name for one in (engine_arguments, scheduler_stats) for field in dataclasses.fields(one)}
    return {"disable_log_stats": False} | ({_DETAILS: True} if {_DETAILS, "iteration_details"} <= known else {})


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
        prompt, new = _tokens(scheduler_stats, iteration_stats)
        if not prompt + new:
            return
        seconds, self._since = now - self._since, now
        share = prompt / (prompt + new)
        self._usage.prefill_tokens += prompt
        self._usage.prefill_seconds += share * seconds
        self._usage.decode_tokens += new
        self._usage.decode_seconds += (1 - share) * seconds
        self._usage.decode_steps += prompt == 0

    def log(self) -> None:
        """Logs nothing; vLLM calls it now and then."""

    def record_sleep_state(self, sleep: int = 0, level: int = 0) -> None:
        """Records nothing; vLLM calls it when the engine is put to sleep or woken."""


def _tokens(scheduler_stats: Any, iteration_stats: Any) -> tuple[int, int]:
    """Returns the prompt tokens and the new tokens that a step computed; the token that a prefill ends with is a prompt's."""
    details = getattr(scheduler_stats, "iteration_details", None)
    if details is not None:
        return (0, 0) if details.is_dummy else (details.num_ctx_tokens, details.num_generation_tokens)
    if iteration_stats is None or hasattr(scheduler_stats, "iteration_details"):
        return 0, 0
    first = len(iteration_stats.time_to_first_tokens_iter)
    return iteration_stats.prompt_token_stats.computed, max(0, iteration_stats.num_generation_tokens - first)
