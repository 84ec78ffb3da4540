"""Estimates from several samples of one item."""

from __future__ import annotations

import math


def pass_at_k(n: int, right: int, k: int) -> float:
    """Returns the unbiased estimate (0 to 1) of the probability that at least one of k samples is right.

    It is the share of all choices of k among the n samples that have a right one (Chen et al. 2021, arXiv 2107.03374, 2.1).

    Raises:
        ValueError: If there are fewer than k samples.
    """
    if not 0 < k <= n:
        raise ValueError(f"pass@{k} needs at least {k} samples, not {n}")
    return 1 - math.comb(n - right, k) / math.comb(n, k)
