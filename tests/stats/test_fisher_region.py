"""The bounds of rejection against the test itself, table by table."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tulu_eval.stats import ALPHA, fisher
from tulu_eval.stats.fisher_region import rejection_bounds

SIZES = [*itertools.product(range(1, 10), range(1, 14)), (19, 1), (3, 24), (20, 20), (23, 31), (34, 58)]
"""19 and 1: a p-value of exactly 1/20. 34 and 58: a bound that falls as the total rises."""


@pytest.mark.parametrize(("n1", "n2"), SIZES)
def test_the_bounds_are_what_the_test_rejects(n1, n2):
    low, high = rejection_bounds(n1, n2, 0, n1 + n2)
    for k1, k2 in itertools.product(range(n1 + 1), range(n2 + 1)):
        assert (not low[k1 + k2] < k1 < high[k1 + k2]) == (fisher(k1, n1, k2, n2) < ALPHA), (k1, k2)


def test_a_bound_can_fall():
    low, _ = rejection_bounds(34, 58, 0, 92)
    assert (np.diff(low) < 0).any() or (np.diff(rejection_bounds(34, 58, 0, 92)[1]) < 0).any()


@pytest.mark.parametrize(("n1", "n2", "first", "last"), [(200, 1319, 700, 900), (1319, 1319, 0, 30), (60, 50, 110, 110)])
def test_a_walk_that_starts_elsewhere_comes_to_the_same(n1, n2, first, last):
    whole, part = rejection_bounds(n1, n2, 0, n1 + n2), rejection_bounds(n1, n2, first, last)
    for one, other in zip(whole, part, strict=True):
        assert one[first : last + 1].tolist() == other.tolist()


def test_a_benchmark_of_many_items():
    """Near the bounds at 3,000 items each, by the test's whole numbers."""
    n, first = 3000, 2990
    low, high = rejection_bounds(n, n, first, first + 20)
    for total in (first, first + 11, first + 20):
        below, above = int(low[total - first]), int(high[total - first])
        rejected = [fisher(k, n, total - k, n) < ALPHA for k in (below, below + 1, above - 1, above)]
        assert rejected == [True, False, False, True]
