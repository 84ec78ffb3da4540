"""Puts jobs of several sizes onto GPUs, in a given order: each gets the GPUs that are free first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Slot(NamedTuple):
    """Where and when a job runs.

    Attributes:
        first: Number of the first of its GPUs, from 0 on; the others follow it.
        begin: Hours from the start of everything.
    """

    first: int
    begin: float
    end: float


def pack(jobs: Sequence[tuple[int, float]], gpus: int) -> list[Slot]:
    """Returns the slot of each job, given as its number of GPUs and its hours, in the order in which they are to begin.

    The number of a job's GPUs is a power of two, at most ``gpus``. The first GPU of a job is a multiple of that
    number, so that a job of at most a node's GPUs lies within a node, and a larger one on whole nodes.
    """
    free = [0.0] * gpus
    slots = []
    for size, hours in jobs:
        begin, first = min((max(free[at : at + size]), at) for at in range(0, gpus - size + 1, size))
        free[first : first + size] = [begin + hours] * size
        slots.append(Slot(first, begin, begin + hours))
    return slots
