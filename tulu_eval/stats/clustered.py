"""A ratio of sums over items, or the mean of such ratios over groups, with an interval that takes items as clusters.

What one item holds moves together: the instructions of one prompt, the samples of one question. So items are what is drawn.
A ratio of sums covers more than it seems to: a mean of fractions has weights of 1; F1 has a score of 1 and a weight of 2 for a
true positive, a score of 0 and a weight of 1 for a false one of either kind, and a weight of 0 for a true negative.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from tulu_eval.stats.intervals import score_interval

LARGEST_VARIANCE = 0.25
"""Of a score between 0 and 1; taken for a group of a single item, which shows no variance."""


class Clustered(NamedTuple):
    """A value with its interval, as fractions."""

    value: float
    low: float
    high: float


def clustered(
    scores: Sequence[float], weights: Sequence[float], groups: Sequence[str] | None = None, level: float = 0.95
) -> Clustered:
    """Returns the ratio of sums, or the mean of the groups' ratios, with its interval.

    The variance is that of the linearised ratio between items, within groups, which count as fixed. From it follows the number
    of independent items that would give as wide an interval, and Wilson's interval of that many is returned: it stays within 0
    to 1 and does not vanish where all items have the same score. There the number is that of the items' shares alone. Sources:
    Cochran (1977), Sampling Techniques, 6.2; Korn and Graubard (1998), Survey Methodology 24, 193-201, for the effective number
    with its factor for few items; Dean and Pagano (2015), Journal of Survey Statistics and Methodology 3, 484-503, who compare.

    Args:
        scores: One per item, 0 to 1.
        weights: One per item, 0 or more.
        groups: One name per item for the mean over groups; ``None`` for one ratio over all.
        level: Confidence level.

    Raises:
        ValueError: If there is no item, or the numbers of scores, weights and groups differ.
    """
    from scipy.special import stdtrit

    members: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for score, weight, group in zip(scores, weights, [""] * len(scores) if groups is None else groups, strict=True):
        members[group].append((score, weight))
    if not members:
        raise ValueError("a value needs at least one item")
    weighed = [pairs for pairs in members.values() if any(weight for _, weight in pairs)]
    if not weighed:
        return Clustered(0.0, 0.0, 1.0)
    value = math.fsum(_ratio(pairs) for pairs in weighed) / len(weighed)
    variance = math.fsum(_variance(pairs) for pairs in weighed) / len(weighed) ** 2
    shares = math.fsum(_squared_shares(pairs) for pairs in weighed) / len(weighed) ** 2
    binomial = value * (1 - value)
    effective = binomial / variance if binomial > 0 and variance > 0 else 1 / shares
    free = sum(map(len, weighed)) - len(weighed)
    quantile = float(stdtrit(max(free, 1), 0.5 + level / 2))
    return Clustered(value, *score_interval(value, effective, quantile))


def _ratio(pairs: Sequence[tuple[float, float]]) -> float:
    return min(1.0, math.fsum(score * weight for score, weight in pairs) / math.fsum(weight for _, weight in pairs))


def _variance(pairs: Sequence[tuple[float, float]]) -> float:
    """Returns the variance of a ratio of sums by its linear part in each item."""
    n, ratio, total = len(pairs), _ratio(pairs), math.fsum(weight for _, weight in pairs)
    if n == 1:
        return LARGEST_VARIANCE
    return n / (n - 1) * math.fsum((weight * (score - ratio) / total) ** 2 for score, weight in pairs)


def _squared_shares(pairs: Sequence[tuple[float, float]]) -> float:
    total = math.fsum(weight for _, weight in pairs)
    return math.fsum((weight / total) ** 2 for _, weight in pairs)
