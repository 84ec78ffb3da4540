"""All randomness, derived: a number depends on the seed, the step or epoch, and what it is for, and on nothing that ran before.

So a resumed run draws what an uninterrupted one draws, with no state to save. Nothing here depends on the rank either, nor on
the number of ranks: a rollout's draw belongs to its place in the step, wherever it is computed.
"""

from __future__ import annotations

import hashlib

import numpy as np


def derive(seed: int, *parts: int | str) -> int:
    """Returns a number of 63 bits for a purpose, e.g. ``derive(seed, step, "rollout")``."""
    text = "\0".join(map(str, (seed, *parts)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def permutation(rows: int, seed: int, epoch: int) -> list[int]:
    """Returns the order in which an epoch goes through ``rows`` rows."""
    order: list[int] = np.random.default_rng(derive(seed, epoch, "order")).permutation(rows).tolist()
    return order
