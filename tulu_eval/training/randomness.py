"""Derives all random numbers from the seed, the step or epoch, and their purpose.

So a resumed run draws the same numbers as an uninterrupted one, without any saved state. The numbers do not depend on the ranks
either: a rollout's draws depend on its place in the step.
"""

from __future__ import annotations

import hashlib

import numpy as np


def derive(seed: int, *parts: int | str) -> int:
    """Returns a number from 0 to 2**63 - 1 for a purpose, e.g. ``derive(seed, step, "rollout")``."""
    text = "\0".join(map(str, (seed, *parts)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def permutation(rows: int, seed: int, epoch: int) -> list[int]:
    """Returns the order of ``rows`` rows in an epoch."""
    order: list[int] = np.random.default_rng(derive(seed, epoch, "order")).permutation(rows).tolist()
    return order
