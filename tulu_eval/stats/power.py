"""How many items a comparison needs, and which difference a number of items can show.

Everything here is for a two-sided test at :data:`ALPHA` and for :data:`POWER`; proportions and differences are fractions.
Figures for planning come from the normal approximation and are rounded to the nearest item: it is not exact to one item.
"""

from __future__ import annotations

import math
from statistics import NormalDist

ALPHA = 0.05
"""Chance that a test calls two equal things different."""

POWER = 0.80
"""Chance of being found that makes a difference detectable. Cohen (1988), Statistical Power Analysis, 2nd ed., p. 56."""

Z_ALPHA = NormalDist().inv_cdf(1 - ALPHA / 2)
Z_POWER = NormalDist().inv_cdf(POWER)


def unpaired_items(p1: float, p2: float) -> int:
    """Returns the items that each of two independent samples needs to show that ``p1`` and ``p2`` differ.

    Fisher's exact test needs about ``2 / |p1 - p2|`` more a sample.
    Source: Fleiss, Levin and Paik (2003), Statistical Methods for Rates and Proportions, 3rd ed., chapter 4; unpooled variance.

    Raises:
        ValueError: Not two different proportions.
    """
    if not (0.0 <= p1 <= 1.0 and 0.0 <= p2 <= 1.0) or p1 == p2:
        raise ValueError(f"{p1} and {p2} are not two different proportions")
    return round((Z_ALPHA + Z_POWER) ** 2 * (p1 * (1 - p1) + p2 * (1 - p2)) / (p1 - p2) ** 2)


def paired_items(difference: float, discordance: float) -> int:
    """Returns the shared items that McNemar's test needs to show a difference.

    Source: Connor (1987), Biometrics 43, 207-211.

    Args:
        difference: Difference of the two proportions.
        discordance: Share of items that one has right and the other wrong; at least the difference.

    Raises:
        ValueError: No difference, or a discordance that does not allow it.
    """
    if not 0.0 < abs(difference) <= discordance <= 1.0:
        raise ValueError(f"a difference of {difference} cannot be with {discordance} of the items discordant")
    root = Z_ALPHA * math.sqrt(discordance) + Z_POWER * math.sqrt(discordance - difference**2)
    return round((root / difference) ** 2)


def detectable_paired(n: int, discordance: float) -> float:
    """Returns the smallest difference that McNemar's test shows on n shared items: :func:`paired_items` solved for it.

    Where no difference that the discordance allows is shown, it is the discordance itself, the largest there can be.

    Raises:
        ValueError: No items, or a discordance outside 0 to 1.
    """
    if n < 1 or not 0.0 <= discordance <= 1.0:
        raise ValueError(f"{n} items with {discordance} discordant cannot be")
    inner = n + Z_POWER**2 - Z_ALPHA**2
    if inner < 0.0:
        return discordance
    difference = math.sqrt(discordance) * (Z_ALPHA * math.sqrt(n) + Z_POWER * math.sqrt(inner)) / (n + Z_POWER**2)
    return min(difference, discordance)


def detectable_unpaired(p: float, n1: int, n2: int) -> float:
    """Returns the smallest gap from ``p``, whichever its direction, that Fisher's exact test shows between two samples.

    The normal approximation with continuity correction; the exact power at the gap it gives is 0.79 to 0.83 for the sizes
    used here (enumerated in the tests). Where a direction has no room for a detectable gap, all of its room counts.
    Source: Casagrande, Pike and Smith (1978), Biometrics 34, 483-486; Fleiss, Levin and Paik (2003), chapter 4.

    Args:
        p: Proportion behind the first sample.
        n1: Items of the first sample.
        n2: Items of the second sample.

    Raises:
        ValueError: Not a proportion, or an empty sample.
    """
    if not 0.0 <= p <= 1.0 or n1 < 1 or n2 < 1:
        raise ValueError(f"a proportion of {p} on {n1} and {n2} items cannot be")

    def shows(other: float) -> bool:
        pooled = (n1 * p + n2 * other) / (n1 + n2)
        equal = math.sqrt(pooled * (1 - pooled) * (1 / n1 + 1 / n2))
        unequal = math.sqrt(p * (1 - p) / n1 + other * (1 - other) / n2)
        correction = (1 / n1 + 1 / n2) / 2
        return abs(p - other) >= correction + Z_ALPHA * equal + Z_POWER * unequal

    def gap(end: float) -> float:
        shown, hidden = end, p
        for _ in range(50):
            middle = (shown + hidden) / 2
            shown, hidden = (middle, hidden) if shows(middle) else (shown, middle)
        return abs(shown - p)

    return max(gap(0.0), gap(1.0))
