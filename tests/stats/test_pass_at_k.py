"""pass@k: against its definition by all subsets, and as an unbiased estimate."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulu_eval.stats import pass_at_k


@given(st.integers(1, 9), st.data())
def test_it_is_the_share_of_subsets_with_a_right_sample(n: int, data: st.DataObject) -> None:
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    subsets = list(itertools.combinations([True] * c + [False] * (n - c), k))
    assert pass_at_k(c, n, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


@given(st.floats(0, 1), st.integers(1, 10))
def test_its_mean_over_all_draws_is_the_chance(p: float, k: int) -> None:
    n = 20
    mean = math.fsum(math.comb(n, c) * p**c * (1 - p) ** (n - c) * pass_at_k(c, n, k) for c in range(n + 1))
    assert mean == pytest.approx(1 - (1 - p) ** k, abs=1e-12)


def test_pass_at_1_is_the_share_of_right_samples_and_one_right_of_twenty_is_a_half_at_10() -> None:
    assert [pass_at_k(c, 20, 1) for c in (0, 5, 20)] == [0.0, 0.25, 1.0]
    assert pass_at_k(1, 20, 10) == 0.5
    assert pass_at_k(11, 20, 10) == 1.0
    assert pass_at_k(100_000, 200_000, 100) == pytest.approx(1.0)


@pytest.mark.parametrize(("right", "samples", "k"), [(-1, 5, 1), (6, 5, 1), (1, 5, 0), (1, 5, 6), (0, 0, 1)])
def test_numbers_that_do_not_fit_are_an_error(right: int, samples: int, k: int) -> None:
    with pytest.raises(ValueError, match=f"pass@{k} of {right} right samples among {samples}"):
        pass_at_k(right, samples, k)
