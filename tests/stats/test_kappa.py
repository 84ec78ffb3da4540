"""Cohen's kappa against a simulation, a worked example, and its ends."""

from __future__ import annotations

import random

import pytest

from tulu_eval.stats.kappa import label_agreement


def test_a_worked_example() -> None:
    """20, 5, 10, 15 of 50 (Wikipedia's, after Kilem Gwet): kappa 0.4."""
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    found = label_agreement(first, second)
    assert (found.n, found.equal, found.kappa) == (50, 0.7, pytest.approx(0.4))
    assert found.confusion == {("yes", "yes"): 20, ("yes", "no"): 5, ("no", "yes"): 10, ("no", "no"): 15}
    assert found.interval.low < 0.7 < found.interval.high


def test_the_interval_holds_the_true_kappa() -> None:
    """The interval of 200 pairs holds the true kappa of 0.6 in 95 % of 2000 draws."""
    draws, covered = random.Random(5), 0
    for _ in range(2000):
        first = [draws.random() < 0.5 for _ in range(200)]
        second = [one if draws.random() < 0.8 else not one for one in first]
        found = label_agreement(list(map(str, first)), list(map(str, second)))
        covered += found.low <= 0.6 <= found.high
    assert 0.935 <= covered / 2000 <= 0.965


def test_the_ends() -> None:
    same = label_agreement(["a", "b", "a"], ["a", "b", "a"])
    assert (same.kappa, same.low, same.high) == (1.0, 1.0, 1.0)
    assert label_agreement(["a", "b"], ["b", "a"]).kappa == -1.0
    assert label_agreement(["a", "a"], ["a", "a"]).kappa == 0.0
    assert label_agreement(["a", "b"], ["a", "a"]).kappa == 0.0
    with pytest.raises(ValueError, match="there are no labels"):
        label_agreement([], [])
    with pytest.raises(ValueError, match="longer"):
        label_agreement(["a"], ["a", "b"])
