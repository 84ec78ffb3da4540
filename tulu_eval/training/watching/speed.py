"""Measures a step: seconds by part, tokens per second, and the used share of the device's arithmetic (MFU).

MFU (model FLOPs utilisation; Chowdhery et al., arXiv 2204.02311, appendix B) counts the operations that the models need: two
per weight and token forward, four backward, the output layer only for tokens with a log-probability, and causal attention. It
does not count padding, repeated computations that save memory, and optimizers; these lower it.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections import defaultdict
from collections.abc import Iterator

import torch

from tulu_eval.runs.rates import measure_flops
from tulu_eval.training.parallel import Ranks

PEAK = {"H200": 989e12, "H100": 989e12, "A100": 312e12}
"""Dense bfloat16 operations per second by a part of the device's name, from NVIDIA's data sheets (SXM)."""


@functools.cache
def peak_flops(device: str, dtype: str) -> float:
    """Returns a device's operations per second from its data sheet, else from a matrix product measured here."""
    if device.startswith("cuda") and dtype == "bfloat16":
        name = torch.cuda.get_device_name(device)
        for part, peak in PEAK.items():
            if part in name:
                return peak
    return measure_flops(device, dtype)


class Speed:
    """Counts from :meth:`begin` to :meth:`summary`."""

    def __init__(self, ranks: Ranks, dtype: str) -> None:
        self._ranks, self._dtype = ranks, dtype
        self.begin()

    def begin(self) -> None:
        """Resets the counts."""
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._flops = self._tokens = 0.0
        self._began = self._now()

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Adds the seconds inside the context to a part."""
        began = self._now()
        try:
            yield
        finally:
            self._seconds[name] += self._now() - began

    def count(self, flops: float, tokens: float = 0.0) -> None:
        """Adds operations and tokens of this rank's models."""
        self._flops += flops
        self._tokens += tokens

    def summary(self) -> dict[str, float]:
        """Returns this rank's seconds in all and by part, and tokens per second and MFU of all ranks; resets the counts."""
        seconds = self._now() - self._began
        sums = torch.tensor([self._tokens, self._flops], dtype=torch.float64)
        tokens, flops = self._ranks.sum(sums.to(self._ranks.device)).tolist()
        peak = peak_flops(str(self._ranks.device), self._dtype) * self._ranks.world
        parts = {f"seconds_{name}": spent for name, spent in self._seconds.items()}
        self.begin()
        return {"seconds": seconds, **parts, "tokens_per_second": tokens / seconds, "mfu": flops / seconds / peak}

    def _now(self) -> float:
        if self._ranks.device.type == "cuda":
            torch.cuda.synchronize(self._ranks.device)
        return time.perf_counter()


def in_words(numbers: dict[str, float]) -> str:
    """Returns a summary of :class:`Speed` as a line for people, with the longest part first."""
    parts = sorted((key for key in numbers if key.startswith("seconds_")), key=lambda key: -numbers[key])
    words = {key: f"{key.removeprefix('seconds_')} {numbers[key]:.2f}" for key in parts}
    if "weight_bytes" in numbers:
        words["seconds_weights"] += f" for {numbers['weight_bytes'] / 1e6:,.1f} MB"
    else:
        words.pop("seconds_weights", None)  # the policy itself decoded
    shares = ", ".join(words.values())
    rate, mfu = numbers["tokens_per_second"], 100 * numbers["mfu"]
    return f"{rate:,.0f} tokens/s  MFU {mfu:.1f} %  {numbers['seconds']:.2f} s ({shares})"
