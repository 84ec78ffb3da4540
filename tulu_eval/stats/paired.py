"""Tests of a difference: on shared items (McNemar, Tango's interval), on independent items (Fisher), in a family (Holm).

The exact tests count with integers and divide once, so no tolerance decides which outcomes are as rare as the one seen.
"""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from tulu_eval.stats.intervals import Interval, check_count, z_value
from tulu_eval.stats.power import ALPHA, POWER

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Pairings(NamedTuple):
    """The range of McNemar's p-value for two counts on the same items, over all possible pairings of the items.

    Attributes:
        p_low: Smallest p-value: as few items differ as possible.
        p_high: Largest p-value: as many items differ as possible.
        flips: Fewest differing items for which the p-value is 0.05 or more; ``None`` if every pairing gives less.
    """

    p_low: float
    p_high: float
    flips: int | None


def mcnemar(only_a: int, only_b: int) -> float:
    """Returns the exact two-sided p-value of "A and B are right equally often" for two runs on the same items.

    Under that hypothesis each discordant item is a fair coin. Source: McNemar (1947), Psychometrika 12, 153-157, with the
    binomial distribution instead of its chi-square approximation. A alone has ``only_a`` items right, B alone ``only_b``.

    Raises:
        ValueError: If a count is negative.
    """
    if only_a < 0 or only_b < 0:
        raise ValueError(f"discordant counts are 0 or more, not {only_a} and {only_b}")
    n = only_a + only_b
    term = tail = 1
    for i in range(min(only_a, only_b)):
        term = term * (n - i) // (i + 1)
        tail += term
    return min(1.0, 2 * tail / (1 << n))


class PairedMeans(NamedTuple):
    """The test of the mean of paired differences; differences lie between -1 and 1.

    Attributes:
        difference: Mean difference.
        low: Lower end of the 95 % interval.
        high: Upper end of that interval.
        p_value: Two-sided p-value of "the mean is 0".
        detectable: Smallest mean difference that the test detects with 80 % power; infinite for a single item.
    """

    difference: float
    low: float
    high: float
    p_value: float
    detectable: float


def paired_means(differences: Sequence[float]) -> PairedMeans:
    """Returns Student's paired t-test of scores that are more than right or wrong, such as shares of an item's samples.

    Items are what is drawn, so the samples of one item count as one (Miller 2024, arXiv 2411.00640, 2.2 and 4.2).

    Raises:
        ValueError: If there is no difference.
    """
    from scipy.special import stdtr, stdtrit

    n = len(differences)
    if not n:
        raise ValueError("a mean needs at least one difference")
    mean = math.fsum(differences) / n
    if n == 1:
        return PairedMeans(mean, -1.0, 1.0, 1.0, math.inf)
    error = math.sqrt(math.fsum((one - mean) ** 2 for one in differences) / (n - 1) / n)
    if error == 0:
        return PairedMeans(mean, mean, mean, 1.0 if mean == 0 else 2.0 ** (1 - n), 0.0)  # the sign test's
    half = float(stdtrit(n - 1, 0.975)) * error
    p_value = 2 * float(stdtr(n - 1, -abs(mean) / error))
    detectable = (float(stdtrit(n - 1, 0.975)) + float(stdtrit(n - 1, POWER))) * error
    return PairedMeans(mean, max(-1.0, mean - half), min(1.0, mean + half), p_value, detectable)


def pairings(k1: int, k2: int, n: int) -> Pairings:
    """Returns the range of McNemar's p-value for two counts on the same n items whose pairing is not known."""
    check_count(k1, n)
    check_count(k2, n)
    gap = abs(k1 - k2)
    # Beyond the gap, items can differ only in pairs that cancel.
    spare = min(k1, k2, n - k1, n - k2)
    cancelling = bisect.bisect_left(range(spare + 1), ALPHA, key=lambda pairs: mcnemar(gap + pairs, pairs))
    flips = gap + 2 * cancelling if cancelling <= spare else None
    return Pairings(mcnemar(gap, 0), mcnemar(gap + spare, spare), flips)


@functools.lru_cache(maxsize=16)
def net_flips(n: int, rate: float) -> NDArray[np.float64]:
    """Returns the probabilities of a net change of -n to n right items; shape ``(2 n + 1,)``, read-only.

    Each item flips with probability ``rate / 2`` to right and with ``rate / 2`` to wrong. Repeated squaring keeps every term
    positive and small tails exact.

    Raises:
        ValueError: If there are no items, or the rate lies outside 0 to 1.
    """
    import numpy as np

    if n < 1 or not 0.0 <= rate <= 1.0:
        raise ValueError(f"a flip rate lies from 0 to 1 and needs items, not {rate} of {n}")
    result, power = np.ones(1), np.array([rate / 2, 1.0 - rate, rate / 2])
    left = n
    while left:
        if left & 1:
            result = np.convolve(result, power)
        power = np.convolve(power, power)
        left >>= 1
    result.setflags(write=False)
    return result


def paired_difference(only_a: int, only_b: int, n: int, level: float = 0.95) -> Interval:
    """Returns Tango's score interval of the difference ``(only_a - only_b) / n`` of two runs on the same n items.

    It contains every difference that the score test, with the nuisance probability at its restricted maximum, does not reject.
    Source: Tango (1998), Statistics in Medicine 17, 891-908. Of the n items that both answered, A alone has ``only_a`` right, B
    alone ``only_b``.

    Raises:
        ValueError: If a count is negative, or there are more discordant items than items.
    """
    if min(only_a, only_b) < 0 or only_a + only_b > n or n < 1:
        raise ValueError(f"{only_a} and {only_b} discordant of {n} items are impossible")
    z = z_value(level)
    estimate = (only_a - only_b) / n

    def score(delta: float) -> float:
        linear = (2 * n - only_a + only_b) * delta - only_a - only_b
        constant = only_b * delta * (1 - delta)
        q = (math.sqrt(max(0.0, linear * linear + 8 * n * constant)) - linear) / (4 * n)
        variance = n * (2 * q + delta * (1 - delta))
        distance = n * (estimate - delta)
        if variance <= 0.0:
            return 0.0 if distance == 0.0 else math.copysign(math.inf, distance)
        return distance / math.sqrt(variance)

    low = -1.0 if estimate == -1.0 else _bisect(lambda delta: score(delta) <= z, -1.0, estimate)
    high = 1.0 if estimate == 1.0 else _bisect(lambda delta: score(delta) < -z, estimate, 1.0)
    return Interval(low, high)


def fisher(k1: int, n1: int, k2: int, n2: int) -> float:
    """Returns Fisher's exact two-sided p-value of "both proportions are equal" for two independent samples.

    It sums over all tables with the same margins that are at most as likely as the one seen.
    Source: Fisher (1935), Journal of the Royal Statistical Society 98, 39-82.

    Raises:
        ValueError: If a count is impossible.
    """
    check_count(k1, n1)
    check_count(k2, n2)
    return hypergeometric(k1, n1, k1 + k2, n1 + n2)


def hypergeometric(k: int, n: int, total_right: int, total: int) -> float:
    """Returns the two-sided p-value of "k right of n is a draw without replacement from ``total_right`` of ``total``".

    It sums over all counts that are at most as likely as k; it is 0 if k cannot be drawn.

    Raises:
        ValueError: If a count is impossible, or the draw is larger than the population.
    """
    check_count(k, n)
    check_count(total_right, total)
    check_count(n, total)
    first, weights = hypergeometric_weights(n, total_right, total)
    if not first <= k < first + len(weights):
        return 0.0
    seen = weights[k - first]
    return sum(weight for weight in weights if weight <= seen) / sum(weights)


def hypergeometric_weights(n: int, total_right: int, total: int) -> tuple[int, list[int]]:
    """Returns the smallest count of right items in a draw of n, and the number of draws for that count and each above it."""
    total_wrong = total - total_right
    first = max(0, n - total_wrong)
    weights = [math.comb(total_right, first) * math.comb(total_wrong, n - first)]
    for k in range(first, min(n, total_right)):
        weights.append(weights[-1] * (total_right - k) * (n - k) // ((k + 1) * (total_wrong - n + k + 1)))
    return first, weights


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Returns adjusted p-values in the given order.

    Rejecting those below alpha keeps the family-wise error rate at alpha or less. Source: Holm (1979), Scandinavian Journal of
    Statistics 6, 65-70.

    Raises:
        ValueError: If a p-value lies outside 0 to 1.
    """
    if not all(0.0 <= p <= 1.0 for p in p_values):
        raise ValueError("a p-value lies between 0 and 1")
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = largest
    return tuple(adjusted)


def _bisect(is_above: Callable[[float], bool], low: float, high: float) -> float:
    """Returns the point between low and high from which ``is_above`` holds, to the last bits."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if is_above(middle) else (middle, high)
    return (low + high) / 2
