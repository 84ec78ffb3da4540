"""A confidence sequence for the mean of a finite population whose values are seen one by one, in random order.

It holds at every number of values at once, so one may look after each value and stop when the interval tells enough: the
probability that any of the intervals misses the mean is at most alpha. A fixed-size interval that is looked at again and again
has no such bound.

The method is betting without replacement. Under a candidate mean, the average of what is left is known before each draw, so a
bet on the draw's difference from it is fair, and wealth that starts at 1 ever reaches 1 / alpha with a probability of at most
alpha (Ville 1939). Candidates under which it did are out. Sources: Waudby-Smith and Ramdas (2020), "Confidence sequences for
sampling without replacement", arXiv 2006.04347, for martingales of what is left; the same (2024), "Estimating means of bounded
random variables by betting", JRSS B 86, 1-27, arXiv 2010.09686, section 5, for the bets.

Each bet is a fraction of the most that can be lost, so wealth falls as the candidate rises, and one bisection finds the bound.
Wealth is divided among the fractions :data:`BETS` at the start. That suits paired differences of -1, 0 and 1: the best fraction
is (p - q) / (p + q) if a share p of the items improves and q gets worse, whatever the share of items that stay. The number of
values, drawn in random order from a population of 500, until 0 is excluded at alpha = 0.01 / 30; medians of 300 orders, and in
brackets with the prior-posterior ratio of the first source for the two counts (Dirichlet prior 0.5, 0.5, 5; 60 orders):

| improve, get worse | effect, points | values |
|---|---|---|
| 25, 0 | 5 | 203 (226) |
| 27, 2 | 5 | 230 (257) |
| 55, 5 | 10 | 147 (158) |
| 150, 0 | 30 | 44 (50) |
| 160, 10 | 30 | 51 |
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tulu_eval.stats.intervals import Interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BETS: tuple[tuple[float, float], ...] = (
    (1 / 16, 0.05), (1 / 8, 0.1), (1 / 4, 0.1), (1 / 2, 0.2), (3 / 4, 0.2), (9 / 10, 0.15), (1.0, 0.2),
)  # fmt: skip
"""Fractions of the largest possible bet, and the share of the wealth that is put on each; the shares sum to 1.

A fraction of 1 loses all at the first value of -1; the small ones are for populations in which many items flip both ways.
"""

STEPS = 30
"""Halvings of the bisection; a bound is wider than the exact one by at most 2 ** -29."""


def mean_without_replacement(values: Sequence[float], population: int, alpha: float) -> Interval:
    """Returns the interval of the mean of ``population`` values, of which ``values`` were seen in their random order.

    All intervals of the growing sequence hold together with a probability of 1 - alpha or more, and each lies within those
    before it; bounds cross only if one has missed. None is wider than if the unseen values were all -1 or all 1; with all
    values seen it is the mean itself.

    Args:
        values: From -1 to 1, in the order seen, which must be random; none gives the interval from -1 to 1.
        population: Number of values, seen and unseen.
        alpha: Probability that one of the intervals may miss the mean, above 0 and below 1.

    Raises:
        ValueError: If a value, the alpha or the number of values is out of range.
    """
    import numpy as np

    seen = np.asarray(values, dtype=float)
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha lies strictly between 0 and 1, not at {alpha}")
    if population < 1 or len(seen) > population:
        raise ValueError(f"{len(seen)} values of a population of {population} are impossible")
    if not np.all(np.abs(seen) <= 1.0):
        raise ValueError("values lie from -1 to 1")
    if len(seen) == population:
        mean = math.fsum(seen) / population
        return Interval(mean, mean)
    return Interval(_lower(seen, population, alpha / 2), -_lower(-seen, population, alpha / 2))


def _lower(seen: NDArray[np.float64], population: int, alpha: float) -> float:
    """Returns the lower bound: the largest candidate at or below which wealth once reached 1 / alpha, or the least possible."""
    unseen = population - len(seen)
    low, high = (math.fsum(seen) - unseen) / population, (math.fsum(seen) + unseen) / population
    for _ in range(STEPS if len(seen) else 0):
        middle = (low + high) / 2
        low, high = (middle, high) if _is_out(seen, population, alpha, middle) else (low, middle)
    return low


def _is_out(seen: NDArray[np.float64], population: int, alpha: float, candidate: float) -> bool:
    """Whether one who bets that the mean is above the candidate once has 1 / alpha times the wealth of the start.

    ``candidate`` lies strictly between the least and the largest possible mean, so the average of what is left is above -1.
    """
    import numpy as np

    before = np.concatenate(([0.0], np.cumsum(seen)[:-1]))
    left = (population * candidate - before) / (population - np.arange(len(seen)))
    fractions, shares = (np.array(column)[:, None] for column in zip(*BETS, strict=True))
    # The largest bet against -1 is 1 / (1 + left); with it, a draw multiplies wealth by (1 + value) / (1 + left).
    largest = (1.0 + seen) / np.maximum(1.0 + left, np.finfo(float).tiny)
    with np.errstate(divide="ignore"):  # the logarithm of 0: all is lost
        logs = np.cumsum(np.log1p(fractions * (largest - 1.0)), axis=1) + np.log(shares)
    return bool((np.exp(np.minimum(logs + math.log(alpha), 1.0)).sum(axis=0) >= 1.0).any())
