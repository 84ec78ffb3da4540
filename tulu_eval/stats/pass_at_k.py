"""The share of items that at least one of k samples solves, from more than k samples of each."""

from __future__ import annotations

import math


def pass_at_k(right: int, samples: int, k: int) -> float:
    """Returns the unbiased estimate, for one item, of the chance that at least one of k samples is right.

    It is the share of the subsets of k samples that have a right one, 1 - C(n - c, k) / C(n, k); a benchmark's value is the
    mean over items. Source: Chen et al. (2021), Evaluating Large Language Models Trained on Code, equation 1.

    Args:
        right: Number of right samples of the item, c.
        samples: Number of its samples, n.
        k: 1 to n.

    Raises:
        ValueError: If the numbers do not fit each other.
    """
    if not 0 <= right <= samples or not 1 <= k <= samples:
        raise ValueError(f"pass@{k} of {right} right samples among {samples}")
    every = math.comb(samples, k)
    return (every - math.comb(samples - right, k)) / every
