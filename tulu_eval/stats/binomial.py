"""Binomial probabilities of many counts at once, without ``scipy.stats``, whose import takes seconds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WIDTH = 7.0
"""A count is left out if it lies more than this many standard deviations, plus this many counts, from the mean.

A normal tail beyond 7 standard deviations has a probability of 1.3e-12.
"""


def likely_counts(n: int, p: float) -> tuple[int, NDArray[np.float64]]:
    """Returns the smallest plausible count of heads in n tosses, and the probabilities of it and the plausible counts above.

    The function multiplies ratios of neighbouring probabilities, outward from the most likely count. The result sums to 1.
    """
    import numpy as np

    width = WIDTH * (math.sqrt(n * p * (1 - p)) + 1)
    mode = min(n, int((n + 1) * p))
    up = np.arange(mode, min(n, int(mode + width)), dtype=float)
    down = np.arange(mode, max(0, int(mode - width)), -1, dtype=float)
    above = np.cumprod((n - up) / (up + 1) * (p / (1 - p))) if p < 1.0 else np.empty(0)
    below = np.cumprod(down / (n - down + 1) * ((1 - p) / p)) if p > 0.0 else np.empty(0)
    weights = np.concatenate((below[::-1], [1.0], above))
    return mode - len(below), weights / weights.sum()


def at_most(k: NDArray[np.int64], n: NDArray[np.int64], p: float) -> NDArray[np.float64]:
    """Returns P(K <= k) for each pair of a count, from -1 to n, and a number of tosses n."""
    import numpy as np
    from scipy.special import betainc

    inside = np.clip(k, 0, n - 1)
    chance = betainc(np.maximum(n - inside, 1), inside + 1, 1.0 - p)
    found: NDArray[np.float64] = np.where(k < 0, 0.0, np.where(k >= n, 1.0, chance))
    return found
