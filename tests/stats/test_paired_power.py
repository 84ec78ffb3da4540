"""Exact power of McNemar's test, against an enumeration of all outcomes by the test itself."""

from __future__ import annotations

import functools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from tulu_eval.stats import ALPHA, POWER, detectable_paired, mcnemar, paired_items
from tulu_eval.stats.paired_power import critical_counts

rejects = functools.cache(lambda only_a, only_b: mcnemar(only_a, only_b) < ALPHA)


def enumerated(n, difference, discordance):
    """Power by all pairs of discordant counts, in fractions."""
    difference, discordance = Fraction(str(difference)), Fraction(str(discordance))
    a, b, same = (discordance + difference) / 2, (discordance - difference) / 2, 1 - discordance
    ways = math.factorial(n)
    total = Fraction(0)
    for i in range(n + 1):
        for j in range(n - i + 1):
            if rejects(i, j):
                k = n - i - j
                total += ways // (math.factorial(i) * math.factorial(j) * math.factorial(k)) * a**i * b**j * same**k
    return float(total)


def summed(n, difference, discordance):
    """Power by the number of discordant items, with scipy's distributions; for more items than all outcomes can be counted."""
    discordant = np.arange(n + 1)
    critical = critical_counts(discordant)
    shares = [(1 + sign * difference / discordance) / 2 for sign in (1, -1)]
    return float(binom.pmf(discordant, n, discordance) @ sum(binom.cdf(critical, discordant, share) for share in shares))


@pytest.mark.parametrize(
    ("n", "discordance"),
    [(6, 1), (15, 0.5), (20, 0.4), (31, 0.9), (40, 0.2), (40, 0.35)],
)
def test_the_detectable_difference_has_the_power_by_all_outcomes(n, discordance):
    difference = detectable_paired(n, discordance)
    assert (
        enumerated(n, round(difference + 1e-6, 7), discordance)
        >= POWER
        > enumerated(n, round(difference - 1e-6, 7), discordance)
    )
    assert summed(n, difference, discordance) == pytest.approx(POWER, abs=1e-9)


@pytest.mark.parametrize(
    ("difference", "discordance", "items"),
    [(1, 1, 6), (0.9, 0.9, 7), (0.7, 0.7, 10), (0.5, 0.5, 15), (0.5, 0.6, 18), (0.4, 0.4, 19), (0.6, 1, 23)],
)
def test_items_are_those_from_which_on_all_outcomes_give_the_power(difference, discordance, items):
    assert paired_items(difference, discordance) == items
    powers = {n: enumerated(n, difference, discordance) for n in range(1, items + 12)}
    assert powers[items - 1] < POWER
    assert all(power >= POWER for n, power in powers.items() if n >= items)


@pytest.mark.parametrize(("points", "low", "high"), [(10, 168, 249), (4.5, 810, 1200), (2, 4016, 5980), (1, 15889, 23740)])
def test_items_at_20_and_30_percent_discordance(points, low, high):
    """10 and 4.5 points were computed apart from this package."""
    assert (paired_items(points / 100, 0.2), paired_items(points / 100, 0.3)) == (low, high)


def test_power_falls_where_an_item_is_added():
    """All items discordant: from 20 to 22 the test rejects 5 or fewer on the rarer side, of ever more."""
    assert enumerated(20, 0.6, 1) > POWER > enumerated(21, 0.6, 1) > enumerated(22, 0.6, 1)
    assert paired_items(0.6, 1) == 23


def test_critical_counts_are_those_of_the_test():
    counts = critical_counts(np.arange(700))
    for discordant, count in enumerate(counts.tolist()):
        assert count == -1 or rejects(count, discordant - count)
        assert count + 1 > discordant / 2 or not rejects(count + 1, discordant - count - 1)


@pytest.mark.parametrize("discordant", [10_000, 10_001, 12_345])
def test_critical_counts_of_many(discordant):
    count = int(critical_counts(np.array([discordant]))[0])
    assert rejects(count, discordant - count)
    assert not rejects(count + 1, discordant - count - 1)


@given(st.integers(60, 3000), st.floats(0.2, 1))
def test_the_detectable_difference_is_found_with_the_power(n, discordance):
    difference = detectable_paired(n, discordance)
    assert 0 < difference <= discordance
    assert summed(n, difference, discordance) == pytest.approx(POWER, abs=1e-6)


def test_too_few_items_show_nothing():
    assert detectable_paired(5, 1) is None
    assert detectable_paired(6, 1) == pytest.approx(2 * POWER ** (1 / 6) - 1, abs=1e-3)
    assert detectable_paired(14, 0.5) is None
    assert detectable_paired(15, 0.5) < 0.5


@pytest.mark.parametrize(
    "call",
    [
        lambda: paired_items(0.0, 0.2),
        lambda: paired_items(0.3, 0.2),
        lambda: paired_items(float("nan"), 0.2),
        lambda: detectable_paired(0, 0.2),
        lambda: detectable_paired(5, 1.2),
        lambda: detectable_paired(5, 0.0),
    ],
)
def test_impossible_input(call):
    with pytest.raises(ValueError, match=r".+"):
        call()
