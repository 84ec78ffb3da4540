"""The counts that Fisher's exact test rejects, for all totals of right items, found by one walk along the region's bounds.

Given the total t of right items in both samples, the first sample's count k is hypergeometric. The test rejects the least
likely counts as long as their probabilities sum to less than :data:`~tulu_eval.stats.power.ALPHA`: all counts up to a lower
bound, and all from an upper bound. From t to t + 1 both bounds move by about one count, and the tail follows from the last
tail::

    P(K <= l | t + 1) = P(K <= l | t) - P(K = l | t) * (n1 - l) / (n1 + n2 - t)
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from tulu_eval.stats.power import ALPHA

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_TIE = 1 + 1e-9
"""Two counts are equally likely if the ratio of their probabilities is smaller; rounding errs by 1e-11 over 100,000 totals."""

_BELOW = ALPHA - 1e-13
"""A p-value this close to :data:`ALPHA` is exactly :data:`ALPHA`, e.g. 1/20, but for rounding; the test does not reject it."""


@dataclasses.dataclass(slots=True)
class _Bounds:
    """The bounds at one total; the test does not reject the counts from ``low + 1`` to ``high - 1``.

    Attributes:
        total: Right items in both samples together.
        low: Largest count rejected from below, or one less than the smallest possible count.
        high: Smallest count rejected from above, or one more than the largest possible count.
        below: Probability of counts up to ``low``.
        above: Probability of counts from ``high`` on.
        first: Probability of ``low + 1``.
        last: Probability of ``high - 1``.
    """

    n1: int
    n2: int
    total: int
    low: int
    high: int
    below: float
    above: float
    first: float
    last: float

    def up(self, k: int) -> float:
        """Returns P(k + 1) / P(k), 0 where k is the largest possible count."""
        return (self.n1 - k) * (self.total - k) / ((k + 1) * (self.n2 - self.total + k + 1))

    def down(self, k: int) -> float:
        """Returns P(k - 1) / P(k), 0 where k is the smallest possible count."""
        return k * (self.n2 - self.total + k) / ((self.n1 - k + 1) * (self.total - k + 1))

    def raise_low(self) -> None:
        """Rejects one more count from below."""
        self.low += 1
        self.below += self.first
        self.first *= self.up(self.low)

    def lower_low(self) -> None:
        """Rejects one fewer count from below."""
        self.first *= self.down(self.low + 1)
        self.below -= self.first
        self.low -= 1

    def raise_high(self) -> None:
        """Rejects one fewer count from above."""
        self.last *= self.up(self.high - 1)
        self.above -= self.last
        self.high += 1

    def lower_high(self) -> None:
        """Rejects one more count from above."""
        self.high -= 1
        self.above += self.last
        self.last *= self.down(self.high)

    def next_total(self) -> None:
        """Adds a right item; the bounds stay, unless ``low + 1`` was the smallest possible count."""
        if self.low + 1 == self.total - self.n2:
            if self.low + 1 == self.high - 1:
                self.raise_high()
            self.raise_low()
        left = self.n1 + self.n2 - self.total
        self.below -= self.first * self.down(self.low + 1) * (self.n1 - self.low) / left
        self.above += self.last * (self.n1 - self.high + 1) / left
        self.first *= self._next(self.low + 1) / left
        self.last *= self._next(self.high - 1) / left
        self.total += 1

    def _next(self, k: int) -> float:
        return (self.n2 - self.total + k) * (self.total + 1) / (self.total + 1 - k)

    def settle(self) -> None:
        """Moves both bounds to the ones that the test has at this total."""
        while True:
            below, above = self.first * self.down(self.low + 1), self.last * self.up(self.high - 1)
            if self.below + self.above < _BELOW and max(below, above) * _TIE < min(self.first, self.last):
                break
            if below * _TIE >= above:
                self.lower_low()
            if above * _TIE >= below:
                self.raise_high()
        while self.low + 1 < self.high - 1:
            from_below, from_above = self.first <= self.last * _TIE, self.last <= self.first * _TIE
            if self.below + self.above + from_below * self.first + from_above * self.last >= _BELOW:
                break
            if from_below:
                self.raise_low()
            if from_above:
                self.lower_high()


def rejection_bounds(n1: int, n2: int, first: int, last: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the bounds for every total from ``first`` to ``last``, each of shape ``(last - first + 1,)``.

    The test rejects counts of the first sample up to the lower bound and from the upper bound on. The samples have n1 and n2
    items; ``last`` is at most ``n1 + n2``.
    """
    import numpy as np

    bounds = _at(n1, n2, first)
    low, high = [], []
    for total in range(first, last + 1):
        bounds.settle()
        low.append(bounds.low)
        high.append(bounds.high)
        if total < last:
            bounds.next_total()
    return np.array(low), np.array(high)


def _at(n1: int, n2: int, total: int) -> _Bounds:
    """Returns bounds, not settled yet, that reject everything but the most likely count.

    The function multiplies ratios of neighbouring probabilities, outward from the most likely count to 12 standard deviations
    (a tail of 1e-32).
    """
    import numpy as np

    smallest, largest = max(0, total - n2), min(n1, total)
    mode = min(max((total + 1) * (n1 + 1) // (n1 + n2 + 2), smallest), largest)
    width = int(12 * math.sqrt(min(n1, n2, total, n1 + n2 - total))) + 20
    up = np.arange(mode, min(largest, mode + width), dtype=float)
    down = np.arange(mode, max(smallest, mode - width), -1, dtype=float)
    above = float(np.cumprod((n1 - up) * (total - up) / ((up + 1) * (n2 - total + up + 1))).sum())
    below = float(np.cumprod(down * (n2 - total + down) / ((n1 - down + 1) * (total - down + 1))).sum())
    at_mode = 1.0 / (1.0 + above + below)
    return _Bounds(n1, n2, total, mode - 1, mode + 1, below * at_mode, above * at_mode, at_mode, at_mode)
