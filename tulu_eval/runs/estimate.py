"""Estimates the memory and a range of seconds of a run before it starts, from arithmetic and two rates measured here.

No engine can be faster than this minimum: each prompt token and each new token costs two FLOPs per parameter (tokens of the
shared prefix only once), and each decoding step reads the weights once. The range's lower end assumes half the measured rates
and answers of 110 tokens (the mean of GSM8K solutions; peers report a mean of 91 and a 95th percentile of 168). Its upper end
assumes a tenth of the rates and answers as long as the limit allows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tulu_eval.logprobs import ScoreRequest
from tulu_eval.models import config as configs
from tulu_eval.models.model_files import DTYPE_BYTES
from tulu_eval.runs.rates import NOTHING_DONE, Rates, machine_rates
from tulu_eval.runs.run_plan import Plan

TYPICAL_NEW_TOKENS = 110
ROWS = 64
"""Number of rows that an engine is assumed to decode together."""

H200_GIB = 139.0
"""Memory of an H200, as its driver says."""

H200_FLOPS = 743e12
"""Operations per second of a bfloat16 matrix product on an H200, measured (benchmarks/README.md, On a CUDA machine)."""

NODE = 8
"""GPUs of a node."""

SHARE = 0.9
"""Share of a GPU's memory that may be planned for: estimates of memory are good to 10 %, and allocators leave fragments."""


@dataclasses.dataclass(frozen=True, slots=True)
class Work:
    """The amount of work of a plan.

    Attributes:
        dtype: Type of the weights, keys and values.
        items: Number of prompts.
        prompt_tokens: Tokens of all prompts, and of given continuations; each prompt counts the shared prefix.
        shared_tokens: Tokens of the prefix that all prompts share.
        max_new_tokens: Largest number of tokens of an answer.
        max_length: Largest number of tokens of a prompt with its answer.
        kv_bytes: Bytes of keys and values per position; 0 if unknown.
    """

    parameters: int
    dtype: str
    items: int
    prompt_tokens: int
    shared_tokens: int
    max_new_tokens: int
    max_length: int
    kv_bytes: int

    @property
    def weight_bytes(self) -> int:
        """Size of the weights in bytes."""
        return self.parameters * DTYPE_BYTES.get(self.dtype, 2)


@dataclasses.dataclass(frozen=True, slots=True)
class Estimate:
    """The estimated cost of a plan.

    Attributes:
        shared_tokens: Tokens of the prefix that all prompts share.
        memory_bytes: Size of the weights, and of the keys and values of the rows that are decoded together.
        seconds_low: Time of typical answers at half the machine's rates.
        seconds_high: Time of the longest answers at a tenth of the machine's rates.
    """

    shared_tokens: int
    memory_bytes: int
    seconds_low: float
    seconds_high: float


def estimate(plan: Plan) -> Estimate:
    """Returns the estimated cost of a plan on this machine, whose two rates are measured the first time."""
    return cost(work_of(plan), machine_rates(plan.order.settings.device, plan.dtype, NOTHING_DONE))


def work_of(plan: Plan) -> Work:
    """Returns the amount of work of a plan."""
    prompts = [one.request.token_ids for one in plan.planned]
    given = [one.request.continuations for one in plan.planned if isinstance(one.request, ScoreRequest)]
    return Work(
        parameters=plan.model.parameters,
        dtype=plan.dtype,
        items=len(prompts),
        prompt_tokens=sum(map(len, prompts)) + sum(len(end.token_ids) for ends in given for end in ends),
        shared_tokens=common_prefix(prompts),
        max_new_tokens=plan.decoding.max_new_tokens,
        max_length=plan.max_length,
        kv_bytes=_kv_bytes(plan),
    )


def cost(work: Work, rates: Rates) -> Estimate:
    """Returns the estimated cost of an amount of work at given rates."""
    low = _seconds(work, rates, min(TYPICAL_NEW_TOKENS, work.max_new_tokens)) / 0.5
    high = _seconds(work, rates, work.max_new_tokens) / 0.1
    rows = min(ROWS, work.items)
    cached = work.shared_tokens + rows * (work.max_length - work.shared_tokens)
    return Estimate(work.shared_tokens, work.weight_bytes + work.kv_bytes * cached, low, high)


def _seconds(work: Work, rates: Rates, new_tokens: int) -> float:
    prefill = work.prompt_tokens - (work.items - 1) * work.shared_tokens
    steps = new_tokens * -(-work.items // ROWS)
    arithmetic = 2 * work.parameters * (prefill + work.items * new_tokens) / rates.flops
    return arithmetic + steps * work.weight_bytes / rates.bytes


def _kv_bytes(plan: Plan) -> int:
    """Returns the bytes of keys and values per position in all layers, from the model's config."""
    config = configs.read(plan.model.path)
    heads = config.heads or 1
    size, kv_heads = config.head_size or config.width // heads, config.kv_heads or heads
    return 2 * config.layers * kv_heads * size * DTYPE_BYTES.get(plan.dtype, 2)


def common_prefix(prompts: Sequence[tuple[int, ...]] | Sequence[str]) -> int:
    """Returns the length of the prompts' common prefix in tokens (or characters)."""
    first, last = min(prompts), max(prompts)
    alike = (position for position, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1])
    return next(alike, min(len(first), len(last)))
