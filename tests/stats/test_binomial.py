from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from tulu_eval.stats.binomial import at_most, likely_counts


@pytest.mark.parametrize("n", [1, 2, 7, 200, 1319, 250_000])
@pytest.mark.parametrize("p", [0.0, 1e-4, 0.1, 0.5, 0.97, 1.0])
def test_likely_counts_are_the_distribution_but_for_its_tails(n, p):
    first, chance = likely_counts(n, p)
    counts = np.arange(first, first + len(chance))
    assert 0 <= first <= counts[-1] <= n
    assert binom.cdf(first - 1, n, p) + binom.sf(counts[-1], n, p) < 1e-9
    assert chance == pytest.approx(binom.pmf(counts, n, p), rel=1e-8, abs=1e-15)


@pytest.mark.parametrize("p", [0.0, 0.3, 0.5, 1.0])
def test_at_most_is_the_distribution_function(p):
    tosses = np.repeat(np.arange(30), 31)
    counts = np.tile(np.arange(-1, 30), 30)
    inside = counts <= tosses
    assert at_most(counts[inside], tosses[inside], p) == pytest.approx(binom.cdf(counts[inside], tosses[inside], p), abs=1e-14)
