"""Estimates the memory and a range of seconds of a run before it starts, from arithmetic and two rates measured here.

No engine can be faster than this minimum: each prompt token and each new token costs two FLOPs per parameter (tokens of the
shared prefix only once), and each decoding step reads the weights once. The range's lower end assumes half the measured rates
and answers of 110 tokens (the mean of GSM8K solutions; peers report a mean of 91 and a 95th percentile of 168). Its upper end
assumes a tenth of the rates and answers as long as the limit allows.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tulu_eval.logprobs import ScoreRequest
from tulu_eval.models import config as configs
from tulu_eval.models.model_files import DTYPE_BYTES
from tulu_eval.runs.run_plan import Plan

if TYPE_CHECKING:
    import torch

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
"""Share of a GPU's memory that may be planned for: the model of it is good to 10 %, and allocators leave fragments."""

TRY_SECONDS = 0.25
"""Seconds for which a measurement is repeated at least."""


@dataclasses.dataclass(frozen=True, slots=True)
class Rates:
    """The speed of a device in one dtype.

    Attributes:
        flops: Floating-point operations per second of a matrix product.
        bytes: Bytes per second of reads from memory.
    """

    flops: float
    bytes: float


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
    """Returns the estimated cost of a plan on this machine; measures two rates, in under a second once torch is loaded."""
    return cost(work_of(plan), measure_rates(plan.order.settings.device, plan.dtype))


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


def measure_rates(device: str, dtype: str) -> Rates:
    """Returns a device's rates of a matrix product and of a read from memory, each the best of some short tries."""
    import torch

    from tulu_eval.backends.hf.backend import resolve_device

    device = resolve_device(device)
    # On a GPU the block is large, so that the start of the kernel does not count: 2**26 gave 3.4 TB/s on an H200 (copies: 4.3).
    block = torch.ones(2**28 if device.startswith("cuda") else 2**26, device=device, dtype=torch.float32)
    return Rates(measure_flops(device, dtype), block.numel() * 4 / _best_seconds(lambda: block.sum(), device))


def measure_flops(device: str, dtype: str) -> float:
    """Returns a device's floating-point operations per second of a square matrix product, the best of some short tries."""
    import torch

    size = 4096 if device.startswith("cuda") else 1024
    matrix = torch.randn(size, size, device=device, dtype=torch.float32).to(getattr(torch, dtype))
    return 2 * size**3 / _best_seconds(lambda: matrix @ matrix, device)


def _best_seconds(call: Callable[[], torch.Tensor], device: str) -> float:
    """Returns the shortest time of a call in seconds.

    It tries at least five times and at least :data:`TRY_SECONDS` long, since other programs may slow some of the tries.
    """
    import torch

    best = float("inf")
    last, tries = time.perf_counter() + TRY_SECONDS, 0
    while tries < 5 or time.perf_counter() < last:
        tries += 1
        began = time.perf_counter()
        call()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        elif device == "mps":
            torch.mps.synchronize()
        best = min(best, time.perf_counter() - began)
    return best
