from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulu_eval.stats import mean_without_replacement
from tulu_eval.stats.without_replacement import BETS, STEPS

ROUNDING = 2.0 ** (1 - STEPS)


@st.composite
def seen_of_population(draw):
    values = draw(st.lists(st.sampled_from([-1.0, 0.0, 1.0]) | st.floats(-1, 1), max_size=40))
    return values, len(values) + draw(st.integers(0 if values else 1, 60))


@given(seen_of_population(), st.sampled_from([0.3, 0.05, 0.01 / 30]))
def test_bounds_are_no_wider_than_logic_and_hold_the_possible(sample, alpha):
    values, population = sample
    unseen = population - len(values)
    low, high = mean_without_replacement(values, population, alpha)
    least, most = ((math.fsum(values) + sign * unseen) / population for sign in (-1, 1))
    assert least <= low <= most
    assert least <= high <= most
    if not unseen:
        assert low == high == math.fsum(values) / population


@given(seen_of_population())
def test_bounds_mirror_and_only_ever_come_closer(sample):
    values, population = sample
    before = (-1.0, 1.0)
    for n in range(0, len(values) + 1, 3):
        low, high = mean_without_replacement(values[:n], population, 0.1)
        assert mean_without_replacement([-one for one in values[:n]], population, 0.1) == (-high, -low)
        if n < population:
            assert low >= before[0] - ROUNDING
            assert high <= before[1] + ROUNDING
        before = low, high


@given(seen_of_population(), st.floats(0.01, 0.2))
def test_a_smaller_alpha_is_wider(sample, alpha):
    values, population = sample
    narrow, wide = (mean_without_replacement(values, population, level) for level in (2 * alpha, alpha))
    assert wide.low <= narrow.low + ROUNDING
    assert wide.high >= narrow.high - ROUNDING


def test_each_order_of_a_small_population_is_counted():
    """The probability of a miss at any time, exactly: over all orders of 6 values, without chance."""
    for population in ((1, 1, 0, 0, -1), (1, 1, 1, 0, 0, 0), (0.5, 0.5, -1, -1, -0.25, 0)):
        n = len(population)
        orders = set(itertools.permutations(population))
        mean = sum(population) / n
        for alpha in (0.5, 0.2):
            missed = 0
            for order in orders:
                looks = (mean_without_replacement(order[:seen], n, alpha) for seen in range(2, n))
                missed += any(not low - 1e-12 <= mean <= high + 1e-12 for low, high in looks)
            assert missed / len(orders) <= alpha


@pytest.mark.parametrize(("up", "down"), [(30, 30), (60, 20), (8, 0), (0, 0), (120, 60)])
def test_coverage_at_every_item_at_once(up, down):
    n, alpha, draws = 200, 0.1, 200
    population = np.repeat([1.0, -1.0, 0.0], [up, down, n - up - down])
    rng = np.random.default_rng(up)
    missed = 0
    for _ in range(draws):
        order, mean = rng.permutation(population), population.mean()
        # Bounds only come closer, so the last before the end, where the interval is the mean itself, has missed if any has.
        low, high = mean_without_replacement(order[:-1], n, alpha)
        missed += not low <= mean <= high
    assert missed <= alpha * draws + 3 * math.sqrt(alpha * (1 - alpha) * draws)


@pytest.mark.parametrize(
    ("up", "down", "stated"), [(25, 0, 203), (27, 2, 230), (55, 5, 147), (150, 0, 44), (160, 10, 51)], ids=lambda one: str(one)
)
def test_the_docstring_says_after_how_many_values_0_is_out(up, down, stated):
    population, rng = np.repeat([1.0, -1.0, 0.0], [up, down, 500 - up - down]), np.random.default_rng(1)
    needed = []
    for _ in range(20):
        order = rng.permutation(population)
        low, high = 1, 500
        while low < high:
            middle = (low + high) // 2
            out = mean_without_replacement(order[:middle], 500, 0.01 / 30).low > 0
            low, high = (low, middle) if out else (middle + 1, high)
        needed.append(low)
    assert np.median(needed) == pytest.approx(stated, rel=0.15)


def test_values_that_may_be_fractions_and_large_populations():
    rng = np.random.default_rng(0)
    population = rng.beta(2, 2, 3000) - rng.beta(2, 3, 3000)
    low, high = mean_without_replacement(population[:800], 3000, 0.01)
    assert low < population.mean() < high
    assert high - low < 0.2
    began = time.perf_counter()
    mean_without_replacement(population[:500], 3000, 0.01)
    assert time.perf_counter() - began < 0.1


def test_the_wealth_is_shared_out_whole():
    assert math.fsum(share for _, share in BETS) == pytest.approx(1.0)
    assert all(0 < fraction <= 1 for fraction, _ in BETS)


def test_nothing_seen_says_nothing():
    assert mean_without_replacement([], 5, 0.05) == (-1.0, 1.0)


@pytest.mark.parametrize(
    ("values", "population", "alpha", "said"),
    [
        ([0.0], 0, 0.1, "1 values of a population of 0"),
        ([], 0, 0.1, "0 values of a population of 0"),
        ([0.0, 1.0], 1, 0.1, "2 values"),
        ([1.5], 3, 0.1, "from -1 to 1"),
        ([math.nan], 3, 0.1, "from -1 to 1"),
        ([0.0], 3, 0.0, "alpha"),
        ([0.0], 3, 1.0, "alpha"),
    ],
)
def test_what_is_impossible_is_refused(values, population, alpha, said):
    with pytest.raises(ValueError, match=said):
        mean_without_replacement(values, population, alpha)
