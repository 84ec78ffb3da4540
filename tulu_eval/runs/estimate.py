"""What a run will cost, before it is paid: memory and a range of seconds from arithmetic and two rates measured here.

The floor is what no engine can beat: every prompt token and every new token costs two FLOPs a parameter, the shared prefix
once; every decoding step reads the weights once. The range runs from 50 % of the measured rates with answers of 110 tokens
(the mean of GSM8K solutions; facts of peers: mean 91, p95 168) to 10 % with every answer as long as the limit allows.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tulu_eval.models import config as configs
from tulu_eval.models.model_files import DTYPE_BYTES
from tulu_eval.runs.run_plan import Plan

if TYPE_CHECKING:
    import torch

TYPICAL_NEW_TOKENS = 110
ROWS = 64
"""Rows that are taken to decode together."""

TRY_SECONDS = 0.25


@dataclasses.dataclass(frozen=True, slots=True)
class Rates:
    """What this machine does in the run's dtype.

    Attributes:
        flops: Floating-point operations a second in a matrix product.
        bytes: Bytes a second read from memory.
    """

    flops: float
    bytes: float


@dataclasses.dataclass(frozen=True, slots=True)
class Work:
    """How much there is to do.

    Attributes:
        parameters: Of the model.
        dtype: Of its weights and of the keys and values.
        items: Prompts.
        prompt_tokens: Tokens of all prompts, the shared prefix counted in each.
        shared_tokens: Length of the prefix that all prompts share.
        max_new_tokens: Limit of each answer.
        max_length: Positions of the longest prompt and answer.
        kv_bytes: Bytes of keys and values of one position; 0 where not known.
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
        """Bytes of the weights."""
        return self.parameters * DTYPE_BYTES.get(self.dtype, 2)


@dataclasses.dataclass(frozen=True, slots=True)
class Estimate:
    """A range, with what it is made of.

    Attributes:
        shared_tokens: Length of the prefix that all prompts share.
        memory_bytes: Weights and the keys and values of the rows decoded together.
        seconds_low: Typical answers at half the machine's rates.
        seconds_high: Longest answers at a tenth of them.
    """

    shared_tokens: int
    memory_bytes: int
    seconds_low: float
    seconds_high: float


def estimate(plan: Plan) -> Estimate:
    """Returns what a plan will cost on this machine; measures two rates, which takes under a second after torch is loaded."""
    return cost(work_of(plan), measure_rates(plan.order.settings.device, plan.dtype))


def work_of(plan: Plan) -> Work:
    """Returns a plan's amount of work."""
    prompts = [one.request.token_ids for one in plan.planned]
    return Work(
        parameters=plan.model.parameters,
        dtype=plan.dtype,
        items=len(prompts),
        prompt_tokens=sum(map(len, prompts)),
        shared_tokens=common_prefix(prompts),
        max_new_tokens=plan.decoding.max_new_tokens,
        max_length=plan.max_length,
        kv_bytes=_kv_bytes(plan),
    )


def cost(work: Work, rates: Rates) -> Estimate:
    """Returns what an amount of work costs at given rates."""
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
    """Returns the bytes that keys and values of one position take in all layers, from the model's config."""
    config = configs.read(plan.model.path)
    heads = config.heads or 1
    size, kv_heads = config.head_size or config.width // heads, config.kv_heads or heads
    return 2 * config.layers * kv_heads * size * DTYPE_BYTES.get(plan.dtype, 2)


def common_prefix(prompts: Sequence[tuple[int, ...]] | Sequence[str]) -> int:
    """Returns how many tokens (or characters) all prompts begin with alike."""
    first, last = min(prompts), max(prompts)
    alike = (position for position, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1])
    return next(alike, min(len(first), len(last)))


def measure_rates(device: str, dtype: str) -> Rates:
    """Returns the rates of a matrix product and of a memory read on a device, each the best of some short tries.

    Raises:
        UserError: There is no such device.
    """
    import torch

    from tulu_eval.backends.hf.backend import resolve_device

    device = resolve_device(device)
    # So many on a GPU that starting the kernel does not count: 2**26 gave 3.4 TB/s on an H200, which copies at 4.3.
    block = torch.ones(2**28 if device.startswith("cuda") else 2**26, device=device, dtype=torch.float32)
    return Rates(measure_flops(device, dtype), block.numel() * 4 / _best_seconds(lambda: block.sum(), device))


def measure_flops(device: str, dtype: str) -> float:
    """Returns the floating-point operations a second of a square matrix product on a device, the best of some short tries."""
    import torch

    size = 4096 if device.startswith("cuda") else 1024
    matrix = torch.randn(size, size, device=device, dtype=torch.float32).to(getattr(torch, dtype))
    return 2 * size**3 / _best_seconds(lambda: matrix @ matrix, device)


def _best_seconds(call: Callable[[], torch.Tensor], device: str) -> float:
    """Returns the seconds of the best of five tries, or of as many as a quarter of a second holds: others may be busy too."""
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
