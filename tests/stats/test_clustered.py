"""Ratios of sums and macro means: against definitions, a bootstrap of items, and simulated coverage."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulu_eval.stats import clustered, wilson

FEW = st.lists(st.tuples(st.integers(0, 4), st.integers(1, 4)).map(lambda one: (min(one), max(one))), min_size=1, max_size=30)
"""Items of k right of m parts."""


def of_parts(parts: list[tuple[int, int]], groups: list[str] | None = None) -> tuple[float, float, float]:
    return clustered([k / m for k, m in parts], [float(m) for _, m in parts], groups)


@given(FEW)
def test_a_ratio_of_sums_with_its_value_inside(parts: list[tuple[int, int]]) -> None:
    value, low, high = of_parts(parts)
    assert value == pytest.approx(sum(k for k, _ in parts) / sum(m for _, m in parts))
    assert 0.0 <= low <= value <= high <= 1.0
    assert low < high


@given(FEW)
def test_a_macro_mean_is_the_mean_of_the_groups_ratios(parts: list[tuple[int, int]]) -> None:
    groups = [f"g{place % 3}" for place in range(len(parts))]
    ratios = [
        Fraction(sum(k for (k, _), group in zip(parts, groups, strict=True) if group == name),
                 sum(m for (_, m), group in zip(parts, groups, strict=True) if group == name))
        for name in dict.fromkeys(groups)
    ]  # fmt: skip
    value, low, high = of_parts(parts, groups)
    assert value == pytest.approx(float(sum(ratios) / len(ratios)))
    assert 0.0 <= low <= value <= high <= 1.0


def test_f1_is_a_ratio_of_sums() -> None:
    true_positive, false_positive, false_negative, true_negative = 40, 15, 5, 100
    scores = [1.0] * true_positive + [0.0] * (false_positive + false_negative + true_negative)
    weights = [2.0] * true_positive + [1.0] * (false_positive + false_negative) + [0.0] * true_negative
    f1 = 2 * true_positive / (2 * true_positive + false_positive + false_negative)
    assert clustered(scores, weights).value == pytest.approx(f1)


def test_right_or_wrong_items_give_nearly_wilson_s_interval() -> None:
    value, low, high = clustered([1.0] * 300 + [0.0] * 241, [1.0] * 541)
    expected = wilson(300, 541)
    assert value == pytest.approx(300 / 541)
    assert (low, high) == pytest.approx(tuple(expected), abs=2e-4)  # n - 1 for n, and Student's quantile


def test_instructions_that_fall_together_count_once() -> None:
    together = clustered([1.0, 0.0] * 50, [4.0] * 100)
    alone = wilson(50, 100)
    assert (together.low, together.high) == pytest.approx(tuple(alone), abs=2e-3)
    assert together.high - together.low > 1.9 * (wilson(200, 400).high - wilson(200, 400).low)


@pytest.mark.parametrize("score", [0.0, 1.0, 0.5])
def test_an_interval_does_not_vanish_where_all_scores_are_equal(score: float) -> None:
    value, low, high = clustered([score] * 30, [3.0] * 30)
    assert value == score
    assert high - low > 0.1


def test_one_item_and_groups_of_one_say_little() -> None:
    assert clustered([1.0], [3.0]).low < 0.05
    value, low, high = clustered([1.0, 0.0, 1.0], [1.0] * 3, ["a", "b", "c"])
    assert value == pytest.approx(2 / 3)
    assert high - low > 0.5


def test_no_weight_says_nothing_and_no_item_is_an_error() -> None:
    assert clustered([1.0, 0.0], [0.0, 0.0]) == (0.0, 0.0, 1.0)
    with pytest.raises(ValueError, match="at least one item"):
        clustered([], [])


@pytest.mark.parametrize("macro", [False, True])
def test_the_width_is_that_of_a_bootstrap_of_items(macro: bool) -> None:
    draws = np.random.default_rng(5)
    n = 400
    weights = draws.integers(1, 4, n)
    scores = draws.binomial(weights, draws.beta(3, 2, n)) / weights
    groups = draws.integers(0, 4, n)
    found = clustered(scores.tolist(), weights.tolist(), [str(one) for one in groups] if macro else None)
    values = []
    for _ in range(2000):
        if macro:
            samples = [draws.choice(np.flatnonzero(groups == one), (groups == one).sum()) for one in range(4)]
        else:
            samples = [draws.integers(0, n, n)]
        values.append(np.mean([(scores[one] * weights[one]).sum() / weights[one].sum() for one in samples]))
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(np.std(values), rel=0.06)


@pytest.mark.parametrize(("n", "mean"), [(20, 0.5), (50, 0.1), (200, 0.9)])
def test_coverage_of_clusters_of_different_sizes(n: int, mean: float) -> None:
    """Each item has a rate of its own, so its parts fall together; a binomial of all parts would cover less."""
    draws = np.random.default_rng(11)
    tries, covered, naive = 1500, 0, 0
    for _ in range(tries):
        weights = draws.integers(1, 6, n)
        rates = draws.beta(mean, 1 - mean, n)
        scores = draws.binomial(weights, rates) / weights
        value, low, high = clustered(scores.tolist(), weights.tolist())
        covered += low <= mean <= high
        total = int(weights.sum())
        interval = wilson(round(value * total), total)
        naive += interval.low <= mean <= interval.high
    assert 0.925 <= covered / tries <= 0.985
    assert naive / tries < 0.9
