from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as reference

from tulu_eval.stats import detectable_paired, detectable_unpaired, fisher, mcnemar, paired_items, unpaired_items


def test_items_the_card_would_need():
    assert unpaired_items(0.505, 0.460) == 1932
    assert (paired_items(0.045, 0.2), paired_items(0.045, 0.3)) == (773, 1160)
    assert unpaired_items(0.505, 0.485) == 9806
    assert (paired_items(0.020, 0.2), paired_items(0.020, 0.3)) == (3922, 5884)


@given(st.floats(0.02, 0.2), st.floats(0.2, 0.6))
def test_paired_items_and_detectable_difference_are_inverse(difference, discordance):
    n = paired_items(difference, discordance)
    assert detectable_paired(n, discordance) == pytest.approx(difference, rel=0.5 / n + 0.02)


@given(st.integers(1, 3000), st.floats(0, 1))
def test_detectable_paired_stays_within_the_discordance(n, discordance):
    assert 0.0 <= detectable_paired(n, discordance) <= discordance
    assert detectable_paired(2 * n, discordance) <= detectable_paired(n, discordance)


@pytest.mark.parametrize(("difference", "discordance"), [(0.045, 0.2), (0.1, 0.3)])
def test_paired_items_have_the_power(difference, discordance):
    """Exact power of the exact test, which is conservative: a little below 0.8."""
    n = paired_items(difference, discordance)
    share = (1 + difference / discordance) / 2
    power = 0.0
    for d in range(n + 1):
        weight = reference.binom.pmf(d, n, discordance)
        if weight > 1e-9:
            b = np.arange(d + 1)
            found = np.array([mcnemar(int(k), d - int(k)) < 0.05 for k in b])
            power += weight * reference.binom.pmf(b, d, share)[found].sum()
    assert 0.76 <= power <= 0.81


def fisher_power(p, n1, q, n2):
    first, second = reference.binom.pmf(np.arange(n1 + 1), n1, p), reference.binom.pmf(np.arange(n2 + 1), n2, q)
    likely = [(i, j) for i in np.flatnonzero(first > 1e-6) for j in np.flatnonzero(second > 1e-6)]
    cache = {}
    for i, j in likely:
        cache[i, j] = fisher(int(i), n1, int(j), n2) < 0.05
    return sum(first[i] * second[j] for (i, j), found in cache.items() if found)


@pytest.mark.parametrize(("p", "n1", "n2"), [(0.67, 50, 50), (0.3, 40, 90), (0.9, 60, 60), (0.67, 120, 120)])
def test_detectable_unpaired_has_the_power(p, n1, n2):
    gap = detectable_unpaired(p, n1, n2)
    powers = [fisher_power(p, n1, q, n2) for q in (p - gap, p + gap) if 0 <= q <= 1]
    assert 0.79 <= min(powers) <= 0.84


@given(st.floats(0, 1), st.integers(1, 2000), st.integers(1, 2000))
def test_detectable_unpaired_is_a_possible_gap_and_mirrors(p, n1, n2):
    gap = detectable_unpaired(p, n1, n2)
    assert 0.0 < gap <= max(p, 1 - p)
    assert detectable_unpaired(1 - p, n1, n2) == pytest.approx(gap, abs=1e-9)
    assert detectable_unpaired(p, 2 * n1, 2 * n2) <= gap + 1e-12


def test_detectable_unpaired_shrinks_like_the_root_of_n():
    assert detectable_unpaired(0.5, 40000, 40000) == pytest.approx(2.8016 * math.sqrt(0.5 / 40000), rel=0.01)


@pytest.mark.parametrize(
    "call",
    [
        lambda: unpaired_items(0.5, 0.5),
        lambda: unpaired_items(0.5, 1.2),
        lambda: paired_items(0.0, 0.2),
        lambda: paired_items(0.3, 0.2),
        lambda: detectable_paired(0, 0.2),
        lambda: detectable_paired(5, 1.2),
        lambda: detectable_unpaired(1.2, 5, 5),
        lambda: detectable_unpaired(0.2, 0, 5),
    ],
)
def test_impossible_input(call):
    with pytest.raises(ValueError, match=r".+"):
        call()
