"""Where a step's time goes: seconds by part, tokens a second, and the share of the device's arithmetic that was used.

The share (MFU, model FLOPs utilisation; Chowdhery et al., arXiv 2204.02311, appendix B) counts what the models need: two
operations a weight and token forward, four backward, the output layer only for tokens whose log-probability is asked for, and
causal attention. Padding, what is computed twice to save memory, and optimizers are not counted, so they lower it.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections import defaultdict
from collections.abc import Iterator

import torch

from tulu_eval.runs.estimate import measure_flops
from tulu_eval.training.parallel import Ranks

PEAK = {"H200": 989e12, "H100": 989e12, "A100": 312e12}
"""Dense bfloat16 operations a second by a part of the device's name, of NVIDIA's data sheets (SXM)."""


@functools.cache
def peak_flops(device: str, dtype: str) -> float:
    """Returns the operations a second that a device can do: of its data sheet, or a matrix product's measured here."""
    if device.startswith("cuda") and dtype == "bfloat16":
        name = torch.cuda.get_device_name(device)
        for part, peak in PEAK.items():
            if part in name:
                return peak
    return measure_flops(device, dtype)


class Speed:
    """Counts from :meth:`begin` to :meth:`summary`.

    Args:
        ranks: Who computes.
        dtype: What is computed in.
    """

    def __init__(self, ranks: Ranks, dtype: str) -> None:
        self._ranks, self._dtype = ranks, dtype
        self.begin()

    def begin(self) -> None:
        """Forgets what was counted."""
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._flops = self._tokens = 0.0
        self._began = self._now()

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Adds what happens inside to a part's seconds."""
        began = self._now()
        try:
            yield
        finally:
            self._seconds[name] += self._now() - began

    def count(self, flops: float, tokens: float = 0.0) -> None:
        """Adds operations that this rank's models need, and tokens."""
        self._flops += flops
        self._tokens += tokens

    def summary(self) -> dict[str, float]:
        """Returns seconds (the first rank's, of all and by part), tokens a second and MFU of all ranks; begins anew."""
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
    """Returns what :meth:`Speed.summary` found in a line for people, the longest part first."""
    parts = sorted((key for key in numbers if key.startswith("seconds_")), key=lambda key: -numbers[key])
    shares = ", ".join(f"{key.removeprefix('seconds_')} {numbers[key]:.2f}" for key in parts)
    rate, mfu = numbers["tokens_per_second"], 100 * numbers["mfu"]
    return f"{rate:,.0f} tokens/s  MFU {mfu:.1f} %  {numbers['seconds']:.2f} s ({shares})"
