"""Puts jobs of several sizes onto GPUs, in a given order: each gets the GPUs that are free first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

MOST_PACKED = 100_000
"""Jobs that :func:`spread` packs at most, over all that it tries: 2 s. 70 models on 64 GPUs take 0.02 s."""


class Slot(NamedTuple):
    """Where and when a job runs.

    Attributes:
        first: Number of the first of its GPUs, from 0 on; the others follow it.
        begin: Hours from the start of everything.
    """

    first: int
    begin: float
    end: float


class Load(NamedTuple):
    """What a job has to do, by one engine or by several that share its items.

    Attributes:
        gpus: Number of GPUs of an engine, a power of two.
        work: GPU-hours without the engines' start.
        start: Hours of an engine's start.
        most: Largest number of engines, a power of two.
    """

    gpus: int
    work: float
    start: float
    most: int

    def hours(self, engines: int) -> float:
        """Returns the hours with so many engines, which start side by side."""
        return self.start + self.work / (self.gpus * engines)

    def engines_within(self, hours: float) -> int:
        """Returns the smallest power of two of engines that take so many hours at most, or the largest one allowed."""
        needed = self.work / self.gpus / (hours - self.start) if hours > self.start else self.most
        return 1 << math.ceil(math.log2(max(1.0, min(needed * (1 - 1e-12), self.most))))


def pack(jobs: Sequence[tuple[int, float]], gpus: int) -> list[Slot]:
    """Returns the slot of each job, given as its number of GPUs and its hours, in the order in which they are to begin.

    The number of a job's GPUs is a power of two, at most ``gpus``. The first GPU of a job is a multiple of that
    number, so that a job of at most a node's GPUs lies within a node, and a larger one on whole nodes.
    """
    import numpy as np

    free = np.zeros(gpus)
    slots = []
    for size, hours in jobs:
        begins = free[: gpus // size * size].reshape(-1, size).max(axis=1)
        place = int(begins.argmin())
        begin = float(begins[place])
        free[place * size : (place + 1) * size] = begin + hours
        slots.append(Slot(place * size, begin, begin + hours))
    return slots


def spread(loads: Sequence[Load], gpus: int) -> list[int]:
    """Returns the number of engines of each job with which the last one ends first, if they begin in the given order.

    Each job gets as few engines as it can have to take at most some hours; all hours that matter are tried, and of equal ends
    the one with the fewest GPU-hours is taken. Not every combination is tried: in 300 random cases of 1 to 5 jobs on 2 to 8
    GPUs the last one ended as early as with the best of all combinations in 248, 0.7 % later on the average, and 17 % at most
    (``tests/findings/test_gpu_slots.py``).
    """
    targets = sorted({load.hours(1 << power) for load in loads for power in range(load.most.bit_length())})
    step = math.ceil(len(targets) * len(loads) / MOST_PACKED)
    tried = []
    for target in {*targets[::step], targets[-1]}:  # the last one gives each job one engine
        engines = [load.engines_within(target) for load in loads]
        hours = [load.hours(count) for load, count in zip(loads, engines, strict=True)]
        area = sum(load.gpus * count * one for load, count, one in zip(loads, engines, hours, strict=True))
        tried.append((max(max(hours), area / gpus), area, engines, hours))
    best, found = (math.inf, math.inf), [1] * len(loads)
    for least, area, engines, hours in sorted(tried):
        if least > best[0]:
            break
        sizes = [load.gpus * count for load, count in zip(loads, engines, strict=True)]
        end = max(slot.end for slot in pack(list(zip(sizes, hours, strict=True)), gpus))
        if (end, area) < best:
            best, found = (end, area), engines
    return found
