from __future__ import annotations

import dataclasses
import itertools
import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as reference

from tulu_eval.stats import (
    Count,
    Mean,
    agree,
    agree_independent,
    agree_of_means,
    agree_same_items,
    agree_superset,
    fisher,
)

RUN = Count(121, 200)


def flips_p_value(gap: int, n: int, rate: Fraction) -> Fraction:
    """Two-sided tail of the net change, over every number of items flipped up and down."""
    return sum(
        math.comb(n, up) * math.comb(n - up, down) * (rate / 2) ** (up + down) * (1 - rate) ** (n - up - down)
        for up in range(n + 1)
        for down in range(n + 1 - up)
        if abs(up - down) >= gap
    )


def fisher_by_enumeration(k1: int, n1: int, k2: int, n2: int) -> Fraction:
    ways = {x: math.comb(n1, x) * math.comb(n2, k1 + k2 - x) for x in range(max(0, k1 + k2 - n2), min(n1, k1 + k2) + 1)}
    return Fraction(sum(w for w in ways.values() if w <= ways[k1]), sum(ways.values()))


@pytest.mark.parametrize(("cell", "verdict"), [(58.0, "consistent"), (67.0, "inconsistent")])
def test_121_of_200_with_the_same_weights(cell, verdict):
    """The two published values of one model contradict each other; a run of its weights can tell which it agrees with."""
    published = Count(round(2 * cell), 200)
    found = agree(RUN, published, items="same", same_weights=True)
    # Flips beyond 40 items have a probability below 1e-12 at 5 % of 200.
    rate = Fraction(1, 20)
    p = float(
        sum(
            math.comb(200, up) * math.comb(200 - up, down) * (rate / 2) ** (up + down) * (1 - rate) ** (200 - up - down)
            for up, down in itertools.product(range(41), repeat=2)
            if abs(up - down) >= abs(121 - published.right)
        )
    )
    assert found.p_value == pytest.approx(p, abs=1e-11)
    assert (found.verdict == "inconsistent") == (p < 0.05)
    assert found.verdict == verdict
    assert found.method == "symmetric flips"
    assert found.difference == pytest.approx(60.5 - cell)


@pytest.mark.parametrize("cell", [58.0, 67.0])
def test_121_of_200_with_other_weights(cell):
    """Fisher's test rejects neither, and 200 items could not have shown 5 points: it cannot tell."""
    published = Count(round(2 * cell), 200)
    found = agree(RUN, published, items="same")
    assert found.p_value == float(fisher_by_enumeration(121, 200, published.right, 200))
    assert found.p_value >= 0.05
    assert found.verdict == "cannot tell"
    assert 13 < found.detectable < 15
    assert "McNemar's p between" in found.explanation


def test_a_run_that_contains_the_published_items():
    found = agree(Count(808, 1319), Count(134, 200), items="superset", same_weights=True)
    assert found.method == "hypergeometric"
    assert found.p_value == float(fisher_by_enumeration(134, 200, 808 - 134, 1119))
    assert found.verdict == "cannot tell"
    assert found.explanation == (
        "cannot tell: 61.3 % (808/1319) against 67.0 % (134/200) published, -5.7 points (the published 200 as a draw from "
        "the run's 1319 outcomes); hypergeometric p = 0.083; only gaps from 9.2 points would have shown, and 5 are asked for"
    )
    assert agree(Count(1310, 1319), Count(134, 200), items="superset", same_weights=True).verdict == "inconsistent"


@pytest.mark.parametrize(("right", "total", "n"), [(4, 6, 3), (5, 6, 2), (0, 5, 3), (3, 6, 6)])
def test_a_draw_by_enumeration(right, total, n):
    drawn = [sum(subset) for subset in itertools.combinations([1] * right + [0] * (total - right), n)]
    for k in range(n + 1):
        rare = sum(drawn.count(count) <= drawn.count(k) for count in drawn)
        assert agree_superset(Count(right, total), Count(k, n)).p_value == rare / len(drawn)


def test_impossible_draw_is_inconsistent():
    found = agree_superset(Count(100, 1319), Count(134, 200))
    assert (found.verdict, found.p_value) == ("inconsistent", 0.0)


def test_which_test_is_used():
    cases = {
        ("same", True): "symmetric flips",
        ("same", False): "Fisher exact",
        ("other", True): "Fisher exact",
        ("other", False): "Fisher exact",
    }
    for (items, same_weights), method in cases.items():
        assert agree(RUN, Count(116, 200), items=items, same_weights=same_weights).method == method
    whole = Count(808, 1319)
    assert agree(whole, Count(116, 200), items="superset", same_weights=True).method == "hypergeometric"
    assert agree(whole, Count(116, 200), items="superset").p_value == fisher(808, 1319, 116, 200)


def test_the_margin_decides_between_consistent_and_cannot_tell():
    weak = agree_independent(RUN, Count(116, 200))
    assert weak.verdict == "cannot tell"
    strong = agree_independent(RUN, Count(116, 200), margin=weak.detectable)
    assert strong.verdict == "consistent"
    assert strong.explanation.startswith("consistent: 60.5 % (121/200) against 58.0 % (116/200) published, +2.5 points")
    assert dataclasses.replace(strong, verdict="", margin=0, explanation="") == dataclasses.replace(
        weak, verdict="", margin=0, explanation=""
    )


@pytest.mark.parametrize(
    "found",
    [
        agree_independent(Count(1, 3), Count(2, 3)),
        agree_same_items(Count(1, 2), Count(2, 2), flip_rate=0.5),
        agree_superset(Count(2, 4), Count(1, 2)),
    ],
    ids=lambda found: found.method,
)
def test_a_test_that_finds_no_gap_at_all_says_so(found):
    assert (found.verdict, found.detectable) == ("cannot tell", None)
    assert found.explanation.endswith("no gap would have shown")


def test_win_rates():
    found = agree(Mean(24.0, 1.2), Mean(28.8, 1.3))
    z = 4.8 / math.hypot(1.2, 1.3)
    assert found.p_value == pytest.approx(2 * reference.norm.sf(z))
    assert found.verdict == "inconsistent"
    assert found.detectable == pytest.approx(2.8016 * math.hypot(1.2, 1.3), abs=1e-3)
    assert agree(Mean(28.0, 1.2), Mean(28.8, 1.2)).verdict == "consistent"
    assert agree(Mean(28.0, 1.5), Mean(28.8, 1.5)).verdict == "cannot tell"
    assert agree(Mean(28.0, 0.0), Mean(28.8, 1.2)).p_value > 0.05


@pytest.mark.parametrize(("z", "verdict"), [(1.95, "consistent"), (1.97, "inconsistent")])
def test_the_level_is_five_percent(z, verdict):
    assert agree(Mean(50 + z, 1.0), Mean(50.0, 0.0)).verdict == verdict


@pytest.mark.parametrize(("n", "rate"), [(6, Fraction(1, 5)), (9, Fraction(1, 20))])
def test_same_items_by_enumeration(n, rate):
    for k_run, k_published in itertools.product(range(n + 1), repeat=2):
        found = agree_same_items(Count(k_run, n), Count(k_published, n), flip_rate=float(rate))
        assert found.p_value == pytest.approx(float(flips_p_value(abs(k_run - k_published), n, rate)), rel=1e-9)


def test_detectable_of_the_same_items_by_enumeration():
    n, rate = 40, Fraction(1, 10)
    law = {
        net: sum(
            math.comb(n, up) * math.comb(n - up, up - net) * (rate / 2) ** (2 * up - net) * (1 - rate) ** (n - 2 * up + net)
            for up in range(max(0, net), n + 1)
            if 0 <= up - net <= n - up
        )
        for net in range(-n, n + 1)
    }
    assert sum(law.values()) == 1

    def power(shift: int) -> Fraction:
        rejected = [g for g in range(n + 1) if sum(p for net, p in law.items() if abs(net) >= g) < Fraction(1, 20)]
        return sum(p for net, p in law.items() if abs(net + shift) >= rejected[0])

    smallest = next(shift for shift in range(1, n) if power(shift) >= Fraction(4, 5))
    assert agree_same_items(Count(20, n), Count(20, n), flip_rate=0.1).detectable == pytest.approx(100 * smallest / n)


@pytest.mark.parametrize(("right", "total", "n"), [(60, 100, 40), (10, 90, 60), (90, 90, 20)])
def test_detectable_of_a_superset_by_enumeration(right, total, n):
    verdicts = [agree_superset(Count(right, total), Count(k, n)).verdict for k in range(n + 1)]
    rejected = [k for k, verdict in enumerate(verdicts) if verdict == "inconsistent"]
    found = agree_superset(Count(right, total), Count(n // 2, n)).detectable * total / 100

    def power(k: int) -> float:
        return float(reference.hypergeom(total, k, n).pmf(rejected).sum())

    smallest = []
    for sign, room in ((1, total - right), (-1, right)):
        shown = [shift for shift in range(1, room + 1) if power(right + sign * shift) >= 0.8]
        smallest.append(shown[0] if shown else room)
    assert found == pytest.approx(max(smallest))


def test_without_noise_any_change_is_inconsistent():
    assert agree_same_items(RUN, Count(122, 200), flip_rate=0.0).verdict == "inconsistent"
    assert agree_same_items(RUN, RUN, flip_rate=0.0).verdict == "consistent"


@st.composite
def pairs(draw):
    n = draw(st.integers(1, 250))
    return Count(draw(st.integers(0, n)), n), Count(draw(st.integers(0, n)), n)


@settings(max_examples=60)
@given(pairs(), st.sampled_from(["same", "superset", "other"]), st.booleans(), st.floats(0.5, 40))
def test_what_every_verdict_means(counts, items, same_weights, margin):
    run, published = counts
    found = agree(run, published, items=items, same_weights=same_weights, margin=margin)
    assert 0.0 <= found.p_value <= 1.0 + 1e-9
    assert found.difference == pytest.approx(100 * (run.right - published.right) / run.n)
    assert (found.verdict == "inconsistent") == (found.p_value < 0.05)
    assert (found.verdict == "consistent") == (
        found.p_value >= 0.05 and found.detectable is not None and found.detectable <= margin
    )
    assert found.explanation.startswith(f"{found.verdict}: ")
    assert "\n" not in found.explanation


@settings(max_examples=60)
@given(pairs(), st.floats(0.0, 0.4))
def test_more_noise_and_less_gap_make_larger_p_values(counts, rate):
    run, published = counts
    found = agree_same_items(run, published, flip_rate=rate)
    assert agree_same_items(published, run, flip_rate=rate).p_value == found.p_value
    assert agree_same_items(run, published, flip_rate=rate + 0.05).p_value >= found.p_value - 1e-9
    if found.verdict == "consistent":
        assert abs(found.difference) < found.margin


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: agree(RUN, Mean(1, 1)), "only two counts or two means can be compared"),
        (lambda: agree(RUN, Count(100, 300), items="same"), "cannot be 200 in the run and 300"),
        (lambda: agree(RUN, Count(100, 300), items="superset", same_weights=True), "cannot contain 300"),
        (lambda: agree(RUN, Count(301, 300)), "301 of 300"),
        (lambda: agree(Count(201, 200), RUN, items="same", same_weights=True), "201 of 200"),
        (lambda: agree_same_items(RUN, RUN, flip_rate=1.1), "flip rate"),
        (lambda: agree_of_means(Mean(1, 0), Mean(1, 0)), "without any standard error"),
        (lambda: agree_of_means(Mean(1, -1), Mean(1, 2)), "0 or more"),
        (lambda: agree_of_means(Mean(1, math.nan), Mean(1, 2)), "0 or more"),
    ],
)
def test_impossible_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
