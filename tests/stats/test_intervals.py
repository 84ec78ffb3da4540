from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as reference
from statsmodels.stats.proportion import proportion_confint

from tulu_eval.stats import Interval, mean_interval, wilson

LEVELS = (0.8, 0.95, 0.99)


@st.composite
def counts(draw, largest=400):
    n = draw(st.integers(1, largest))
    return draw(st.integers(0, n)), n


@pytest.mark.parametrize(
    ("cell", "low", "high"),
    [
        (46.0, 39.2, 52.9),
        (48.5, 41.7, 55.4),
        (50.5, 43.6, 57.4),
        (58.0, 51.1, 64.6),
        (61.0, 54.1, 67.5),
        (67.0, 60.2, 73.1),
        (71.5, 64.9, 77.3),
    ],
)
def test_wilson_of_the_published_cells(cell, low, high):
    interval = wilson(round(2 * cell), 200)
    assert (round(100 * interval.low, 1), round(100 * interval.high, 1)) == (low, high)


@given(counts(), st.sampled_from(LEVELS))
def test_wilson_is_that_of_statsmodels(count, level):
    expected = proportion_confint(*count, alpha=1 - level, method="wilson")
    assert wilson(*count, level) == pytest.approx(expected, abs=1e-12)


@given(counts())
def test_wilson_holds_its_estimate_and_mirrors(count):
    k, n = count
    low, high = wilson(k, n)
    assert 0.0 <= low <= k / n <= high <= 1.0
    assert wilson(n - k, n) == pytest.approx((1 - high, 1 - low), abs=1e-12)
    wider = wilson(k, n, 0.99)
    assert wider.low <= low
    assert high <= wider.high


@given(st.integers(1, 300))
def test_bounds_grow_with_the_count(n):
    bounds = [wilson(k, n) for k in range(n + 1)]
    assert all(a.low < b.low and a.high < b.high for a, b in itertools.pairwise(bounds))


def coverage(intervals, p):
    n = len(intervals) - 1
    low, high = np.array(intervals).T
    return float(reference.binom.pmf(np.arange(n + 1), n, p)[(low <= p) & (p <= high)].sum())


@pytest.mark.parametrize("n", [50, 200, 1319])
def test_enumerated_coverage(n):
    grid = np.linspace(0.1, 0.9, 161)
    wilsons = [coverage([wilson(k, n) for k in range(n + 1)], p) for p in grid]
    assert min(wilsons) < 0.95 < max(wilsons)
    assert min(wilsons) >= 0.93
    assert max(wilsons) <= 0.9705


def test_mean():
    assert mean_interval(26.7, 1.3) == pytest.approx((26.7 - 1.959964 * 1.3, 26.7 + 1.959964 * 1.3), abs=1e-6)
    assert mean_interval(1.0, 0.0) == Interval(1.0, 1.0)


@pytest.mark.parametrize("arguments", [(1, 0), (-1, 5), (6, 5), (1, 5, 0.0), (1, 5, 1.0), (1, 5, float("nan"))])
def test_impossible_counts_and_levels(arguments):
    with pytest.raises(ValueError, match=r"not"):
        wilson(*arguments)


@pytest.mark.parametrize("error", [-1.0, float("nan")])
def test_impossible_standard_error(error):
    with pytest.raises(ValueError, match="standard error"):
        mean_interval(0.0, error)


def test_nothing_heavy_is_imported():
    code = (
        "import sys; from tulu_eval.stats import wilson, fisher; wilson(1, 2); fisher(1, 2, 2, 2);"
        "print([m for m in ('scipy', 'numpy', 'pandas') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
