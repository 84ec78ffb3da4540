from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from scipy import stats as reference
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests

from tulu_eval.stats import fisher, holm, hypergeometric, mcnemar, paired_difference, pairings
from tulu_eval.stats.paired import net_flips

small = st.integers(0, 60)


@given(small, small)
def test_mcnemar_is_that_of_statsmodels(b, c):
    expected = statsmodels_mcnemar([[5, b], [c, 7]], exact=True).pvalue
    assert mcnemar(b, c) == pytest.approx(expected, rel=1e-9)
    assert mcnemar(b, c) == mcnemar(c, b)


@pytest.mark.parametrize("n", range(11))
def test_mcnemar_by_tossing_all_coins(n):
    tosses = [sum(toss) for toss in itertools.product((1, -1), repeat=n)]
    for b in range(n + 1):
        as_far = sum(abs(net) >= abs(2 * b - n) for net in tosses)
        assert mcnemar(b, n - b) == float(Fraction(as_far, 2**n))


def test_mcnemar_of_a_whole_benchmark():
    assert mcnemar(600, 700) == pytest.approx(reference.binomtest(600, 1300).pvalue, rel=1e-9)


@pytest.mark.parametrize("counts", [(1, 7, 21), (40, 20, 160), (0, 0, 30), (0, 5, 12), (9, 0, 9), (3, 3, 6), (150, 105, 1319)])
def test_paired_difference_against_likelihood_maximised_numerically(counts):
    b, c, n = counts
    for bound in paired_difference(b, c, n):
        if abs(bound) == 1.0:
            assert abs(b - c) == n
            continue

        def unlikely(q, delta=bound):
            cells = ((b, q + delta), (c, q), (n - b - c, 1 - 2 * q - delta))
            return -sum(k * math.log(max(p, 1e-300)) for k, p in cells if k)

        limits = (max(0.0, -bound), (1 - bound) / 2)
        q = optimize.minimize_scalar(unlikely, bounds=limits, method="bounded", options={"xatol": 1e-12}).x
        if min(unlikely(limits[0]), unlikely(limits[1])) < unlikely(q):
            q = min(limits, key=unlikely)
        z = (b - c - n * bound) / math.sqrt(n * (2 * q + bound - bound**2))
        assert abs(z) == pytest.approx(1.959964, abs=2e-4)


def test_paired_difference_published_example():
    # Airway responsiveness before and after transplantation (Bentur et al. 2009), as in Fagerland, Lydersen and Laake (2014),
    # BMC Medical Research Methodology 14:68: Tango's interval is -0.517 to -0.026.
    low, high = paired_difference(1, 7, 21)
    assert (round(low, 3), round(high, 3)) == (-0.517, -0.026)


@st.composite
def discordant(draw):
    n = draw(st.integers(1, 300))
    b = draw(st.integers(0, n))
    return b, draw(st.integers(0, n - b)), n


@given(discordant())
def test_paired_difference_holds_its_estimate_and_changes_sign(counts):
    b, c, n = counts
    low, high = paired_difference(b, c, n)
    assert -1.0 <= low <= (b - c) / n <= high <= 1.0
    assert paired_difference(c, b, n) == pytest.approx((-high, -low), abs=1e-9)
    wider = paired_difference(b, c, n, 0.99)
    assert wider.low <= low
    assert high <= wider.high


def test_paired_difference_enumerated_coverage():
    n = 40
    bounds = {(b, c): paired_difference(b, c, n) for b in range(n + 1) for c in range(n + 1 - b)}
    for p_b, p_c in [(0.1, 0.1), (0.15, 0.1), (0.25, 0.15), (0.2, 0.1)]:
        covering = [(b, c, n - b - c) for (b, c), (low, high) in bounds.items() if low <= p_b - p_c <= high]
        assert 0.94 <= reference.multinomial.pmf(covering, n, [p_b, p_c, 1 - p_b - p_c]).sum() <= 0.975


@st.composite
def counts(draw, largest=120):
    n = draw(st.integers(1, largest))
    return draw(st.integers(0, n)), n


@given(counts(), counts())
def test_fisher_is_that_of_scipy(first, second):
    (k1, n1), (k2, n2) = first, second
    expected = reference.fisher_exact([[k1, n1 - k1], [k2, n2 - k2]]).pvalue
    assert fisher(k1, n1, k2, n2) == pytest.approx(expected, rel=1e-7)
    assert fisher(k2, n2, k1, n1) == pytest.approx(expected, rel=1e-7)
    assert fisher(n1 - k1, n1, n2 - k2, n2) == pytest.approx(expected, rel=1e-7)


def test_fisher_of_the_published_cells():
    cells = {"ppo-8b": 97, "ppo-13b": 134, "dpo-13b": 101, "sft-13b": 92, "dpo-70b": 143}
    p = {pair: fisher(cells[pair[0]], 200, cells[pair[1]], 200) for pair in itertools.combinations(cells, 2)}
    near = {
        ("ppo-8b", "dpo-13b"): 0.76,
        ("ppo-8b", "sft-13b"): 0.69,
        ("dpo-13b", "sft-13b"): 0.42,
        ("ppo-13b", "dpo-70b"): 0.39,
    }
    assert {pair: round(p.pop(pair), 2) for pair in near} == near
    assert max(p.values()) < 0.0012


@pytest.mark.parametrize("total_right", range(8))
@pytest.mark.parametrize("n", [1, 3, 6])
def test_hypergeometric_by_drawing_every_subset(total_right, n):
    outcomes = [1] * total_right + [0] * (7 - total_right)
    drawn = [sum(subset) for subset in itertools.combinations(outcomes, n)]
    for k in range(n + 1):
        rare = sum(drawn.count(other) for other in set(drawn) if drawn.count(other) <= drawn.count(k))
        assert hypergeometric(k, n, total_right, 7) == (float(Fraction(rare, len(drawn))) if k in drawn else 0.0)


def test_hypergeometric_of_a_whole_benchmark():
    law = reference.hypergeom(1319, 808, 200)
    likely = law.pmf(np.arange(201))
    expected = likely[likely <= law.pmf(134) * (1 + 1e-9)].sum()
    assert hypergeometric(134, 200, 808, 1319) == pytest.approx(expected, rel=1e-9)


@settings(max_examples=25)
@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_is_that_of_statsmodels(p_values):
    adjusted = holm(p_values)
    if p_values:
        assert adjusted == pytest.approx(multipletests(p_values, method="holm")[1], abs=1e-12)
    assert all(p <= q <= 1.0 for p, q in zip(p_values, adjusted, strict=True))


@pytest.mark.parametrize("n", range(1, 7))
def test_pairings_by_trying_every_pairing(n):
    runs = list(itertools.product((0, 1), repeat=n))
    seen: dict[tuple[int, int], list[tuple[float, int]]] = {}
    for a, b in itertools.product(runs, repeat=2):
        only_a = sum(x > y for x, y in zip(a, b, strict=True))
        only_b = sum(x < y for x, y in zip(a, b, strict=True))
        seen.setdefault((sum(a), sum(b)), []).append((mcnemar(only_a, only_b), only_a + only_b))
    for (k1, k2), found in seen.items():
        low, high, flips = pairings(k1, k2, n)
        assert (low, high) == (min(p for p, _ in found), max(p for p, _ in found))
        assert flips == min((flipped for p, flipped in found if p >= 0.05), default=None)


def test_pairings_of_the_example():
    low, high, flips = pairings(121, 134, 200)
    assert low == 2**-12
    assert high == mcnemar(66, 79)
    assert flips == 39
    assert mcnemar(12, 25) < 0.05 <= mcnemar(13, 26)
    assert pairings(0, 200, 200).flips is None


@pytest.mark.parametrize(("n", "rate"), [(1, 0.3), (4, 0.0), (5, Fraction(1, 5)), (6, Fraction(1, 20))])
def test_net_flips_by_enumeration(n, rate):
    rate = Fraction(rate)
    expected = [Fraction(0)] * (2 * n + 1)
    for flips in itertools.product((-1, 0, 1), repeat=n):
        expected[n + sum(flips)] += math.prod((1 - rate if flip == 0 else rate / 2) for flip in flips)
    assert net_flips(n, float(rate)) == pytest.approx([float(p) for p in expected], rel=1e-12)


@settings(max_examples=20)
@given(st.integers(1, 1500), st.floats(0, 0.99))
def test_net_flips_is_a_symmetric_law(n, rate):
    law = net_flips(n, rate)
    steps = np.arange(-n, n + 1)
    assert law.sum() == pytest.approx(1.0)
    assert law == pytest.approx(law[::-1])
    assert (law * steps**2).sum() == pytest.approx(n * rate, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(
    "call",
    [
        lambda: mcnemar(-1, 2),
        lambda: paired_difference(3, 3, 5),
        lambda: paired_difference(-1, 3, 5),
        lambda: fisher(3, 2, 1, 2),
        lambda: hypergeometric(1, 5, 2, 4),
        lambda: holm([0.5, 1.5]),
        lambda: holm([float("nan")]),
        lambda: pairings(3, 2, 2),
        lambda: net_flips(5, 1.1),
        lambda: net_flips(0, 0.1),
    ],
)
def test_impossible_input(call):
    with pytest.raises(ValueError, match=r".+"):
        call()
