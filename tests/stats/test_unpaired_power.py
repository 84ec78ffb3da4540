"""Exact power of Fisher's test, against an enumeration of all pairs of counts by the test itself."""

from __future__ import annotations

import functools
import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tulu_eval.stats import ALPHA, POWER, detectable_unpaired, fisher, unpaired_items, unpaired_power

rejects = functools.cache(lambda k1, n1, k2, n2: fisher(k1, n1, k2, n2) < ALPHA)


def enumerated(p1, n1, p2, n2):
    """Power by all pairs of counts, in fractions."""
    first, second = (
        [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
        for p, n in ((Fraction(str(p1)), n1), (Fraction(str(p2)), n2))
    )
    return float(sum(a * b for k1, a in enumerate(first) for k2, b in enumerate(second) if rejects(k1, n1, k2, n2)))


@pytest.mark.parametrize(
    ("p1", "n1", "p2", "n2"),
    [
        (0, 4, 1, 4),
        (0, 3, 1, 3),
        (0.25, 18, 0.75, 18),
        (0.9, 30, 0.6, 12),
        (0.1, 9, 0.5, 40),
        (0.5, 7, 0.5, 20),
        (1, 5, 0.2, 34),
    ],
)
def test_power_is_that_of_all_pairs_of_counts(p1, n1, p2, n2):
    assert unpaired_power(p1, n1, p2, n2) == pytest.approx(enumerated(p1, n1, p2, n2), abs=1e-9)
    assert unpaired_power(p2, n2, p1, n1) == pytest.approx(unpaired_power(p1, n1, p2, n2), abs=1e-12)


@pytest.mark.parametrize(("p1", "p2", "items"), [(0, 1, 4), (0.25, 0.75, 18), (0.05, 0.55, 14), (0.3, 0.9, 12), (1, 0.4, 10)])
def test_items_are_those_from_which_on_all_pairs_of_counts_give_the_power(p1, p2, items):
    assert unpaired_items(p1, p2) == unpaired_items(p2, p1) == items
    powers = {n: enumerated(p1, n, p2, n) for n in range(max(1, items - 3), items + 8)}
    assert powers[items - 1] < POWER
    assert all(power >= POWER for n, power in powers.items() if n >= items)


def test_power_at_the_sizes_of_the_normal_approximation():
    """Around 72 % a gap of 10 points took 316 items by the formula for a z-test; Fisher's test then has 77 %."""
    p1, p2 = 0.67, 0.77
    assert round((1.959964 + 0.841621) ** 2 * (p1 * (1 - p1) + p2 * (1 - p2)) / 0.01) == 313
    assert 0.76 < unpaired_power(p1, 316, p2, 316) < 0.78
    assert unpaired_items(p1, p2) == 334


@pytest.mark.parametrize(("p1", "p2", "items"), [(0.46, 0.505, 1976), (0.485, 0.505, 9941), (0.495, 0.505, 39473)])
def test_items_of_small_differences(p1, p2, items):
    assert unpaired_items(p1, p2) == items
    assert unpaired_power(p1, items - 1, p2, items - 1) < POWER <= unpaired_power(p1, items, p2, items)


@settings(max_examples=25)
@given(st.floats(0, 1), st.integers(1, 400), st.integers(1, 400))
def test_the_detectable_gap_is_possible_mirrors_and_has_the_power(p, n1, n2):
    gap = detectable_unpaired(p, n1, n2)
    mirrored = detectable_unpaired(1 - p, n1, n2)
    if gap is None:
        assert mirrored is None
        assert max(unpaired_power(p, n1, end, n2) for end in (0, 1)) < POWER
        return
    assert 0.0 < gap <= max(p, 1 - p)
    assert mirrored == pytest.approx(gap, abs=1e-9)
    powers = [unpaired_power(p, n1, q, n2) for q in (p - gap, p + gap) if 0 <= q <= 1]
    assert powers
    assert min(powers) == pytest.approx(POWER, abs=1e-6)


def test_the_detectable_gap_shrinks_like_the_root_of_n():
    assert detectable_unpaired(0.5, 40000, 40000) == pytest.approx(2.8016 * math.sqrt(0.5 / 40000), rel=0.01)


def test_too_few_items_show_nothing():
    assert detectable_unpaired(0.5, 3, 3) is None
    assert detectable_unpaired(0.0, 3, 3) is None
    assert detectable_unpaired(0.0, 4, 4) == pytest.approx(POWER ** (1 / 4), abs=1e-6)


@pytest.mark.parametrize(
    "call",
    [
        lambda: unpaired_items(0.5, 0.5),
        lambda: unpaired_items(0.5, 1.2),
        lambda: unpaired_items(float("nan"), 0.2),
        lambda: unpaired_power(0.5, 0, 0.2, 3),
        lambda: detectable_unpaired(1.2, 5, 5),
        lambda: detectable_unpaired(0.2, 0, 5),
    ],
)
def test_impossible_input(call):
    with pytest.raises(ValueError, match=r".+"):
        call()
