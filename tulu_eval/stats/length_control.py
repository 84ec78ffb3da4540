"""AlpacaEval 2's win rate and its length-controlled (LC) win rate, as published; pure functions on arrays.

Row i has a preference in [1, 2] (2: the model wins), a length difference in Python characters (baseline minus model) and the
instruction's difficulty d_i::

    y_i = preference_i - 1                      t_i = tanh(difference_i / std(difference, ddof=1))
    P(model wins) = sigmoid(length * t_i + difficulty * d_i + constant)

An L1-penalised logistic regression fits the three weights (no intercept; it penalises the constant too). It uses these rows
and 1610 "gamed" rows: two baselines told to be verbose or concise, with constant 0 and sample weight 0.1. LC is the mean
prediction with t_i = 0. Source: tatsu-lab/alpaca_eval @ 46ca37b6 (v0.6.2), ``metrics/glm_winrate.py``,
``length_controlled_v1``; Dubois et al. 2024, arXiv:2404.04475.

The published number is the one at which liblinear stops with seed 123, up to 0.016 points from the optimum. Its C comes from
cross-validation over folds that an unstable sort made. This module keeps both instead of something better.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
FoldMode = Literal["leaderboard", "stable"]
"""``leaderboard``: the partition behind the public leaderboard (scikit-learn < 1.9, numpy without SIMD sort).
``stable``: fold = (n - 1 - i) mod 5, the partition of scikit-learn >= 1.9 on every machine."""

FOLDS = 5
CS: tuple[float, ...] = tuple(float(c) for c in np.logspace(-4, 4, 10))
"""The grid of ``LogisticRegressionCV(Cs=10)``."""

SEED = 123
TOLERANCE = 1e-4
MAX_ITERATIONS = 100
"""``random_state`` of v0.6.2 and scikit-learn's defaults for liblinear."""

GAMED_WEIGHT = 0.2 / 2
"""``regularize_to_baseline_lambda`` divided by the number of gamed baselines."""

L1R_LR = 6
"""liblinear's solver number for L1-regularised logistic regression."""

FOLDS_FILE = Path(__file__).with_name("cv_folds_introsort.npz")
"""Folds from ``np.argsort`` (introsort) of equal keys inside ``GroupKFold(5)``, for 2400 to 2415 rows.

They were computed for this project.
"""


@dataclasses.dataclass(frozen=True, slots=True)
class JudgedRows:
    """A model's annotated rows. All arrays have shape (n,).

    Attributes:
        preference: In [1, 2]; 0 is the old code of a tie; NaN if the judge failed.
        difference: ``len(baseline output) - len(model output)``, in Python characters.
    """

    preference: Array
    difference: Array
    difficulty: Array

    def take(self, index: npt.NDArray[np.int64]) -> JudgedRows:
        """Returns the rows at ``index``, in that order; an index may repeat."""
        return JudgedRows(self.preference[index], self.difference[index], self.difficulty[index])


@dataclasses.dataclass(frozen=True, slots=True)
class Gamed:
    """The rows of ``df_gamed.csv``: 805 for the verbose baseline, then 805 for the concise one. Arrays of shape (1610,).

    Attributes:
        score: Preference minus 1, in [0, 1].
        length: Standardised length difference, before tanh.
    """

    score: Array
    length: Array
    difficulty: Array


class Weights(NamedTuple):
    """Weights of the logistic regression, in the order of the published table."""

    length: float
    difficulty: float
    constant: float


class WinRate(NamedTuple):
    """The raw win rate. Rates and the standard error are in percent; ``n_`` fields are counts of rows."""

    win_rate: float
    standard_error: float
    discrete_win_rate: float
    n_wins: int
    n_wins_base: int
    n_draws: int
    n_total: int


class Fit(NamedTuple):
    """A length-controlled win rate in percent, with the C and the weights that give it."""

    value: float
    c: float
    weights: Weights


class BootstrapInterval(NamedTuple):
    """A bootstrap interval and its standard error, in percentage points, from ``draws`` resamples."""

    low: float
    high: float
    standard_error: float
    draws: int


def scores(preference: Array) -> Array:
    """Returns preference minus 1, with 0 (the old code of a tie) read as 1.5.

    Raises:
        ValueError: If a preference is neither 0, nor NaN, nor within [1, 2].
    """
    odd = ~np.isnan(preference) & (preference != 0) & ~((preference >= 1) & (preference <= 2))
    if odd.any():
        raise ValueError(f"preference {preference[odd][0]} is not within [1, 2]")
    return np.where(preference == 0, 1.5, preference) - 1.0


def win_rate(preference: Array) -> WinRate:
    """Returns the raw win rate over the judged rows, as ``alpaca_eval.metrics.get_winrate`` does.

    Raises:
        ValueError: If no row is judged, or a preference is out of range.
    """
    judged = scores(preference)
    judged = judged[~np.isnan(judged)]
    n = len(judged)
    if n == 0:
        raise ValueError("no row is judged")
    rounded = np.where(judged == 0.5, 0.5, np.round(judged + 1.0) - 1.0)
    return WinRate(
        win_rate=100.0 * float(judged.mean()),
        standard_error=100.0 * float(judged.std(ddof=1)) / n**0.5 if n > 1 else float("nan"),
        discrete_win_rate=100.0 * float(rounded.mean()),
        n_wins=int((judged > 0.5).sum()),
        n_wins_base=int((judged < 0.5).sum()),
        n_draws=int((judged == 0.5).sum()),
        n_total=n,
    )


def sigmoid(x: Array) -> Array:
    """Returns 1 / (1 + exp(-x)), without overflow."""
    return np.exp(-np.logaddexp(0.0, -x))


def from_weights(weights: Weights, difficulty: Array) -> float:
    """Returns LC in percent from the weights and the difficulties of all instructions, shape (n,)."""
    return 100.0 * float(sigmoid(weights.constant + weights.difficulty * difficulty).mean())


@functools.cache
def _leaderboard_folds() -> dict[int, npt.NDArray[np.int64]]:
    with np.load(FOLDS_FILE) as file:
        return {int(name): file[name].astype(np.int64) for name in file.files}


def folds(n: int, mode: FoldMode) -> npt.NDArray[np.int64]:
    """Returns the fold, 0 to 4, of each of n rows; shape (n,).

    Raises:
        ValueError: If the leaderboard's partition is not known for n rows.
    """
    if mode == "stable":
        return (n - 1 - np.arange(n)) % FOLDS
    known = _leaderboard_folds()
    if n not in known:
        raise ValueError(f"the leaderboard's folds are known for {min(known)} to {max(known)} rows, not for {n}; use 'stable'")
    return known[n]


class _Design(NamedTuple):
    """Gamed rows, then judged rows: features (m, 3), scores (m,), weights (m,)."""

    x: Array
    y: Array
    weight: Array


def _design(rows: JudgedRows, gamed: Gamed) -> _Design:
    spread = rows.difference.std(ddof=1) if len(rows.difference) > 1 else 0.0
    if not spread > 0:
        raise ValueError("the length differences do not vary, so there is no length to control for")
    y = scores(rows.preference)
    judged = ~np.isnan(y)
    model = np.column_stack([np.tanh(rows.difference / spread), rows.difficulty, np.ones(len(y))])[judged]
    other = np.column_stack([np.tanh(gamed.length), gamed.difficulty, np.zeros(len(gamed.score))])
    weight = np.concatenate([np.full(len(other), GAMED_WEIGHT), np.ones(len(model))])
    return _Design(np.concatenate([other, model]), np.concatenate([gamed.score, y[judged]]), weight)


def _seeds(n: int) -> list[int]:
    """Returns the first n seeds that scikit-learn draws for liblinear from ``RandomState(123)``, one per fit."""
    state = np.random.RandomState(SEED)
    return [int(state.randint(np.iinfo("i").max)) for _ in range(n)]


class _Solver:
    """liblinear on doubled rows: each row with weight s has label 1 with weight s*y and label 0 with weight s*(1-y).

    scikit-learn's public estimators spend two thirds of the time on checks: an LC takes 87 ms with them and 30 ms through the
    solver that they call (1 thread). The call is the same from scikit-learn 1.4 to 1.9.
    """

    def __init__(self, design: _Design) -> None:
        from sklearn.svm import _liblinear

        _liblinear.set_verbosity_wrap(0)
        self._train = _liblinear.train_wrap
        self._x = np.ascontiguousarray(np.concatenate([design.x, design.x]))
        self._label = np.concatenate([np.ones(len(design.y)), np.zeros(len(design.y))])
        self._weight = np.concatenate([design.weight * design.y, design.weight * (1.0 - design.y)])
        self._class_weight = np.ones(2)

    def solve(self, c: float, seed: int) -> Weights:
        """Returns the weights for a regularisation constant ``c``."""
        found, _ = self._train(
            self._x, self._label, False, L1R_LR, TOLERANCE, -1.0, c, self._class_weight, MAX_ITERATIONS, seed, 0.1, self._weight
        )  # fmt: skip
        return Weights(*(float(value) for value in np.asarray(found).ravel()))


def _choose_c(design: _Design, mode: FoldMode) -> float:
    """Returns the C with the best held-out likelihood: the unweighted mean over folds of the mean over their rows."""
    fold = folds(len(design.y), mode)
    seeds = _seeds(len(CS))
    total = np.zeros(len(CS))
    for held_out in range(FOLDS):
        test = fold == held_out
        solver = _Solver(_Design(design.x[~test], design.y[~test], design.weight[~test]))
        weights = np.array([solver.solve(c, seed) for c, seed in zip(CS, seeds, strict=True)])
        p = np.clip(sigmoid(design.x[test] @ weights.T), 1e-15, 1 - 1e-15)
        y = design.y[test][:, None]
        total += (design.weight[test][:, None] * (y * np.log(p) + (1 - y) * np.log(1 - p))).mean(axis=0)
    return CS[int(np.argmax(total))]


def fit(rows: JudgedRows, gamed: Gamed, mode: FoldMode = "leaderboard", c: float | None = None) -> Fit:
    """Returns the length-controlled win rate.

    Rows without a preference are left out of the fit but not of the mean, as published. ``c`` is the regularisation constant;
    with ``None``, cross-validation by the folds of ``mode`` chooses it.

    Raises:
        ValueError: If a preference is out of range, the lengths do not vary, no row is judged, or the folds are not known.
    """
    if np.isnan(rows.preference).all():
        raise ValueError("no row is judged")
    design = _design(rows, gamed)
    if c is None:
        c = _choose_c(design, mode)
    weights = _Solver(design).solve(c, _seeds(1)[0])
    return Fit(from_weights(weights, rows.difficulty), c, weights)


def over_grid(rows: JudgedRows, gamed: Gamed) -> tuple[Fit, ...]:
    """Returns the fit for every C of the grid, in ascending order; raises what :func:`fit` raises.

    The folds decide which of these fits is published, and the folds depend on the machine that computed the number.
    """
    design, seed = _design(rows, gamed), _seeds(1)[0]
    solver = _Solver(design)
    found = [(c, solver.solve(c, seed)) for c in CS]
    return tuple(Fit(from_weights(weights, rows.difficulty), c, weights) for c, weights in found)


def bootstrap(
    rows: JudgedRows, gamed: Gamed, c: float, draws: int = 1000, seed: int = 0, level: float = 0.95
) -> BootstrapInterval:
    """Returns a percentile bootstrap interval of LC over instructions; every draw refits all three weights.

    The package's ``lc_standard_error`` is the spread of predictions over instructions, not a standard error of LC. Each draw
    resamples the rows, then standardises, fits and averages them again. C stays at the full sample's choice, and the gamed
    rows stay, because they act as a prior.
    """
    rng = np.random.default_rng(seed)
    n = len(rows.preference)
    values = np.array([fit(rows.take(rng.integers(0, n, n)), gamed, c=c).value for _ in range(draws)])
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return BootstrapInterval(float(low), float(high), float(values.std(ddof=1)), draws)
