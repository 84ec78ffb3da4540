"""Turns messages into the words of a Python caller: ``--max-cost`` of the command line is the parameter ``max_cost``."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from tulu_eval.errors import UserError

P = ParamSpec("P")
R = TypeVar("R")

PARAMETERS = {
    "adapter": "adapter",
    "allow-pickle": "allow_pickle=True",
    "as": "against=",
    "backend": "backend",
    "base-url": "served=",
    "batch-size": "batch_size",
    "benchmark": "benchmark",
    "c": "c",
    "cache": "cache",
    "cluster": "cluster",
    "data": "data",
    "data-parallel": "data_parallel",
    "date": "date",
    "detect": "detect",
    "device": "device",
    "dtype": "dtype",
    "fresh": "fresh=True",
    "gamed": "gamed",
    "gpu-hour-price": "gpu_hour_price",
    "gpu-memory-utilization": "gpu_memory_utilization",
    "gpus": "gpus",
    "judge": "judge",
    "judge-model": "judge_models",
    "judge-url": "url",
    "judge-vllm": "vllm",
    "limit": "limit",
    "max-cost": "max_cost",
    "max-model-len": "max_model_len",
    "max-items": "max_items",
    "max-seconds": "max_seconds",
    "method": "method",
    "model": "model",
    "models": "models",
    "name": "name",
    "n": "n",
    "number": "number",
    "output": "output",
    "partial": "partial=True",
    "pipeline-parallel": "pipeline_parallel",
    "price": "price",
    "prices": "prices",
    "probe": "probe",
    "probe-limit": "probe_limit",
    "probe-data": "probe_data",
    "prompts": "prompts",
    "protocol": "protocol",
    "quantization": "quantization",
    "rank-timeout": "rank_timeout",
    "registry": "registry",
    "results": "results",
    "reward": "reward",
    "reward-model": "reward_model",
    "reward-url": "reward_url",
    "rollout-memory": "rollout_memory",
    "rollouts": "rollouts",
    "scorer": "scorer",
    "seed": "seed",
    "served-name": "name=",
    "sandbox-image": "sandbox_image",
    "set": "settings",
    "shard": "shard",
    "skip-bad-rows": "skip_bad_rows=True",
    "skip-unavailable": "skip_unavailable=True",
    "split": "split",
    "tensor-parallel": "tensor_parallel",
    "timeout": "timeout",
    "trust-remote-code": "trust_remote_code=True",
    "unsafe-execution": "unsafe_execution=True",
    "yes": "confirm=",
}
"""Option of the command line: the parameter, or the field of a record, that does the same."""

_OPTION = re.compile(r"'tulu-eval [^']*'|`tulu-eval [^`]*`|(?<![\w-])--([a-z][a-z-]*)(?![\w-])( (?=[A-Z]))?")
"""An option with the space before a placeholder such as ``URL``; a whole command in quotes, which stays as it is."""


def in_python(message: str) -> str:
    """Returns a message with the names of options turned into those of parameters."""

    def named(found: re.Match[str]) -> str:
        parameter = PARAMETERS.get(found[1] or "")
        if parameter is None:
            return found[0]
        return parameter if parameter.endswith("=") and found[2] else parameter.rstrip("=") + (found[2] or "")

    return _OPTION.sub(named, message)


def spoken(function: Callable[P, R]) -> Callable[P, R]:
    """Turns a public function's errors into words for Python callers; ``error.command_line`` keeps the original ones."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except UserError as error:
            error.args = (in_python(error.command_line),)
            raise

    return call
