"""How fast this machine is: two rates per device and dtype, measured once and kept in the user's cache."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from tulu_eval.backends.hf.device import resolve_device
from tulu_eval.caching import cached, read_json, write_quietly
from tulu_eval.records import content_hash
from tulu_eval.store import environment

if TYPE_CHECKING:
    from pathlib import Path

    import torch

TRY_SECONDS = 0.25
"""Seconds for which a measurement is repeated at least."""

LEAST, MOST = 1e6, 1e18
"""Rates between which a kept file is believed; a device of today does 1e9 to 1e15. Others are measured anew."""


@dataclasses.dataclass(frozen=True, slots=True)
class Rates:
    """The speed of a device in one dtype.

    Attributes:
        flops: Floating-point operations per second of a matrix product.
        bytes: Bytes per second of reads from memory.
    """

    flops: float
    bytes: float


NOTHING_DONE = Rates(0.0, 0.0)
"""The rates of no run, which every measurement exceeds."""


def machine_rates(device: str, dtype: str, done: Rates) -> Rates:
    """Returns this machine's rates on a device in a dtype; measures them the first time.

    If a run was faster than the measured rates, the machine was busy during the measurement. It then measures again and keeps
    the better rates. ``device`` is a setting such as ``auto`` or ``cuda:0``; ``done`` are the run's rates per device.
    """
    device = resolve_device(device)
    path = cached("rates", f"{content_hash(_identity(device, dtype))[:16]}.json")
    best = _kept(path)
    if best.flops and done.flops <= best.flops and done.bytes <= best.bytes:
        return best
    found = measure_rates(device, dtype)
    best = Rates(max(best.flops, found.flops), max(best.bytes, found.bytes))
    write_quietly(path, json.dumps(dataclasses.asdict(best)))
    return best


def _identity(device: str, dtype: str) -> dict[str, object]:
    """Returns all that a rate depends on, since machines may share a home folder, and a job may have few of a node's cores."""
    if device.startswith("cuda"):
        import torch

        processor = torch.cuda.get_device_name(device)
    else:
        there = getattr(os, "sched_getaffinity", None)  # Linux has it
        processor = f"{len(there(0)) if there else 0} cores, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS')}"
    return {
        "machine": environment.machine(),
        "torch": environment.packages().get("torch"),
        "device": device,
        "processor": processor,
        "dtype": dtype,
    }


def _kept(path: Path | None) -> Rates:
    """Returns the rates of a cache file; :data:`NOTHING_DONE` if it has none that can be believed."""
    kept = read_json(path)
    flops, size = kept.get("flops"), kept.get("bytes")
    if isinstance(flops, float) and isinstance(size, float) and LEAST <= flops <= MOST and LEAST <= size <= MOST:
        return Rates(flops, size)
    return NOTHING_DONE


def measure_rates(device: str, dtype: str) -> Rates:
    """Returns a device's rates of a matrix product and of a read from memory, each the best of some short tries."""
    import torch

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
