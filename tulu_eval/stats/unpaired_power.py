"""Exact power of Fisher's test on two independent samples: the items that each needs, and the gap that given sizes detect.

The test is :func:`tulu_eval.stats.fisher` at :data:`~tulu_eval.stats.power.ALPHA`, two-sided, as ``verify`` runs it if the
weights or the items differ. Power is the probability of all pairs of counts for which the test rejects::

    power = sum over (k1, k2) that the test rejects of P(k1 of n1) * P(k2 of n2)

The only approximation: tails of ``k1 + k2`` below 1e-9 count as not rejected. Power is not monotone in n.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, NamedTuple

from tulu_eval.stats.binomial import WIDTH, likely_counts
from tulu_eval.stats.fisher_region import rejection_bounds
from tulu_eval.stats.power import POWER, Z_ALPHA, Z_POWER

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class _Crossings(NamedTuple):
    """The steps at which a bound passes counts of the first sample, one element per step.

    Attributes:
        place: The count that the bound passes.
        total: The total of right items at which the bound passes the count.
        sign: 1 upwards, -1 downwards.
    """

    place: NDArray[np.int64]
    total: NDArray[np.int64]
    sign: NDArray[np.int64]


def unpaired_power(p1: float, n1: int, p2: float, n2: int) -> float:
    """Returns the probability that Fisher's exact test tells samples of n1 and n2 items with proportions p1 and p2 apart.

    Raises:
        ValueError: If a proportion lies outside 0 to 1, or a sample is empty.
    """
    _check(p1, n1)
    _check(p2, n2)
    middle, width = n1 * p1 + n2 * p2, WIDTH * (math.sqrt(n1 * p1 * (1 - p1) + n2 * p2 * (1 - p2)) + 1)
    first, last = max(0, int(middle - width)), min(n1 + n2, int(middle + width))
    return _power(p1, n1, p2, n2, *_crossings(n1, n2, first, last))


@functools.lru_cache(maxsize=256)
def unpaired_items(p1: float, p2: float) -> int:
    """Returns the smallest number of items per sample from which the power on two samples stays at :data:`POWER` or more.

    Raises:
        ValueError: If a proportion lies outside 0 to 1, or both are equal.
    """
    _check(p1, 1)
    _check(p2, 1)
    if p1 == p2:
        raise ValueError(f"{p1} and {p2} are not two different proportions")
    # Fleiss, Levin and Paik (2003), Statistical Methods for Rates and Proportions, 3rd ed., chapter 4: the normal
    # approximation gives the start. A tenth and 40 items more lies beyond the last n that lacks power, as a search over
    # all n up to a quarter more showed for 204 pairs of proportions.
    near = (Z_ALPHA + Z_POWER) ** 2 * (p1 * (1 - p1) + p2 * (1 - p2)) / (p1 - p2) ** 2
    n = math.ceil(1.1 * near) + 40
    while n:
        spare = unpaired_power(p1, n, p2, n) - POWER
        if spare < 0.0:
            break
        # By the normal approximation one item less costs 0.4 / n of power; a step of the test in between adds power. The
        # search skips half the items that would use up the spare power, and skips none where the approximation is coarse.
        n -= max(1, int(spare * n / 0.8)) if n > 500 else 1
    return n + 1


@functools.lru_cache(maxsize=256)
def detectable_unpaired(p: float, n1: int, n2: int) -> float | None:
    """Returns the smallest gap from the first sample's ``p``, in either direction, that the test detects with :data:`POWER`.

    A direction without room for such a gap does not count. Returns ``None`` if neither direction has room.

    Raises:
        ValueError: If the proportion lies outside 0 to 1, or a sample is empty.
    """
    _check(p, n1)
    _check(p, n2)
    crossings = _all_crossings(n1, n2)

    def gap(end: float) -> float | None:
        shown, hidden = end, p
        if _power(p, n1, end, n2, *crossings) < POWER:
            return None
        for _ in range(40):
            middle = (shown + hidden) / 2
            enough = _power(p, n1, middle, n2, *crossings) >= POWER
            shown, hidden = (middle, hidden) if enough else (shown, middle)
        return abs(shown - p)

    return max((found for end in (0.0, 1.0) if (found := gap(end)) is not None), default=None)


def _check(p: float, n: int) -> None:
    if not 0.0 <= p <= 1.0 or n < 1:
        raise ValueError(f"a proportion of {p} on {n} items is impossible")


@functools.lru_cache(maxsize=64)
def _all_crossings(n1: int, n2: int) -> tuple[_Crossings, _Crossings]:
    return _crossings(n1, n2, 0, n1 + n2)


def _crossings(n1: int, n2: int, first: int, last: int) -> tuple[_Crossings, _Crossings]:
    """Returns the crossings of the lower and of the upper bound of rejection, for all totals from ``first`` to ``last``."""
    import numpy as np

    low, high = rejection_bounds(n1, n2, first, last)
    return _passed(np.concatenate(([-1], low)), first), _passed(np.concatenate((high, [n1 + 1])) - 1, first + 1)


def _passed(path: NDArray[np.int64], first: int) -> _Crossings:
    """Returns the steps of a bound, one per count that it passes; it reaches ``path[i + 1]`` at total ``first + i``."""
    import numpy as np

    size = np.abs(np.diff(path))
    place = np.repeat(np.arange(len(size)), size)
    within = np.arange(len(place)) - np.repeat(np.cumsum(size) - size, size)
    count = np.minimum(path[place], path[place + 1]) + 1 + within
    return _Crossings(count, first + place, np.sign(path[place + 1] - path[place]))


def _power(p1: float, n1: int, p2: float, n2: int, low: _Crossings, high: _Crossings) -> float:
    """Returns the probability of rejection.

    The test rejects a count k1 from the total at which the lower bound passes it, and up to the one at which the upper does.
    """
    import numpy as np

    first, chance = likely_counts(n1, p1)
    chances = np.concatenate(([0.0], chance, [0.0]))
    start, other = likely_counts(n2, p2)
    sums = np.concatenate(([0.0], np.cumsum(other)))

    def at(table: NDArray[np.float64], place: NDArray[np.int64]) -> NDArray[np.float64]:
        return table[np.clip(place, 0, len(table) - 1)]

    above = low.sign * at(chances, low.place - first + 1) * (1.0 - at(sums, low.total - low.place - start))
    below = high.sign * at(chances, high.place - first + 1) * at(sums, high.total - high.place - start)
    return float(above.sum() + below.sum())
