"""How well a count fits a bare number: exactly, or up to flips of single items."""

from __future__ import annotations

import math

import pytest

from tulu_eval.findings.explaining.fit import count_fit
from tulu_eval.findings.explaining.naming import RIVAL
from tulu_eval.stats import FLIP_RATE


def weights(*away: int, n: int = 500) -> list[float]:
    """Returns the probability of 300 right items under recipes that give so many more."""
    return [math.exp(count_fit(300 + one, 300, 300, n, FLIP_RATE)) for one in away]


def test_an_exact_count_is_told_from_one_three_items_off_and_not_from_one_two_off() -> None:
    exact, two, three = weights(0, 2, 3)
    assert three < RIVAL * exact < two


def test_the_allowance_for_flips_still_fits_a_count_ten_items_off_and_no_count_forty_off() -> None:
    ten, forty = weights(10, 40)
    assert ten > 1e-3
    assert forty < 1e-10


def test_a_count_beyond_all_items_fits_nothing() -> None:
    assert count_fit(0, 500, 500, 500, 0.001) < -500
    assert count_fit(500.0, 0, 0, 500, 0.001) < -500


@pytest.mark.parametrize("rate", [0.0, 1e-4, FLIP_RATE, 0.2])
def test_all_counts_together_have_the_probability_of_one(rate: float) -> None:
    total = math.fsum(math.exp(count_fit(60, count, count, 100, rate)) for count in range(-40, 161))
    assert total == pytest.approx(1.0, abs=1e-6)
