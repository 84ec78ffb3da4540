"""pass@k against the count of all choices."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulu_eval.stats import pass_at_k


@given(st.integers(1, 9), st.data())
def test_it_is_the_share_of_choices_with_a_right_sample(n: int, data: st.DataObject) -> None:
    right, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    choices = list(itertools.combinations([True] * right + [False] * (n - right), k))
    assert pass_at_k(n, right, k) == pytest.approx(sum(map(any, choices)) / len(choices))


@pytest.mark.parametrize(("n", "k"), [(1, 2), (3, 0), (0, 1)])
def test_too_few_samples_are_refused(n: int, k: int) -> None:
    with pytest.raises(ValueError, match="needs at least"):
        pass_at_k(n, 0, k)
