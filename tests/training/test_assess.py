"""Shares and means of what was held out, with their intervals."""

from __future__ import annotations

import pytest

from tulu_eval.store.setup_schema import plain
from tulu_eval.training.assess import mean, share


def test_a_share_has_wilsons_interval_in_percent() -> None:
    assert plain(share(196, 196)) == pytest.approx({"value": 100, "low": 98.077, "high": 100, "n": 196}, abs=0.001)
    assert plain(share(1, 4)) == pytest.approx({"value": 25, "low": 4.559, "high": 69.936, "n": 4}, abs=0.001)


def test_a_mean_has_the_normal_interval() -> None:
    """1.96 times the standard error: the standard deviation of 1, 2, 3, 4 is 1.29099, its half 0.64550."""
    assert plain(mean([1.0, 2.0, 3.0, 4.0])) == pytest.approx({"value": 2.5, "low": 1.23485, "high": 3.76515, "n": 4}, abs=1e-5)
