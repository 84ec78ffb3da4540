"""The published length-controlled arithmetic, on real annotations and on made-up rows."""

from __future__ import annotations

import csv
import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tulu_eval.judging.gamed import load_gamed
from tulu_eval.stats import length_control as lc

MODELS = ("alpaca-7b", "claude-2", "gpt-3.5-turbo-1106")


@pytest.fixture(scope="module")
def gamed_file(shared):
    return load_gamed(shared / "data" / "alpaca_eval" / "df_gamed_rederived.csv")


@pytest.fixture(scope="module")
def rows(shared, gamed_file):
    def load(model):
        path = shared / "data" / "alpaca_eval" / "models" / model / "annotations_weighted_alpaca_eval_gpt4_turbo.json"
        data = json.loads(path.read_text())
        preference = np.array([row["preference"] for row in data], dtype=float)
        difference = np.array([len(row["output_1"]) - len(row["output_2"]) for row in data], dtype=float)
        return lc.JudgedRows(preference, difference, gamed_file.difficulty)

    return {model: load(model) for model in MODELS}


@pytest.fixture(scope="module")
def reference(shared):
    with (shared / "data" / "alpaca_eval" / "lc_reference.csv").open() as file:
        return {row["model"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def leaderboard():
    """The public leaderboard's rows by model, from the installed alpaca-eval package, which is not imported."""
    spec = importlib.util.find_spec("alpaca_eval")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("alpaca-eval is not installed; its leaderboard file is the reference here")
    folder = Path(spec.submodule_search_locations[0]) / "leaderboards" / "data_AlpacaEval_2"
    with (folder / "weighted_alpaca_eval_gpt4_turbo_leaderboard.csv").open() as file:
        return {row[""]: row for row in csv.DictReader(file)}


@pytest.mark.parametrize("model", MODELS)
def test_the_published_number_at_its_c(rows, gamed_file, reference, model):
    found = lc.fit(rows[model], gamed_file.gamed, c=float(reference[model]["C_leaderboard"]))
    assert found.value == pytest.approx(float(reference[model]["length_controlled_winrate"]), abs=1e-8)


@pytest.mark.parametrize("model", MODELS)
def test_the_leaderboards_folds_choose_the_published_c(rows, gamed_file, reference, model):
    found = lc.fit(rows[model], gamed_file.gamed, "leaderboard")
    assert found.c == pytest.approx(float(reference[model]["C_leaderboard"]), rel=1e-12)
    assert found.value == pytest.approx(float(reference[model]["length_controlled_winrate"]), abs=1e-8)


@pytest.mark.parametrize("model", MODELS)
def test_the_raw_win_rate_is_the_leaderboards(rows, leaderboard, reference, model):
    found, row = lc.win_rate(rows[model].preference), leaderboard[model]
    assert found.win_rate == pytest.approx(float(reference[model]["win_rate"]), abs=1e-9)
    for name in ("win_rate", "standard_error", "discrete_win_rate"):
        assert getattr(found, name) == pytest.approx(float(row[name]), abs=1e-9), name
    for name in ("n_wins", "n_wins_base", "n_draws", "n_total"):
        assert getattr(found, name) == int(row[name]), name


def test_leaderboard_rows_from_published_weights_alone(shared, gamed_file, leaderboard):
    with (shared / "data" / "alpaca_eval" / "published_glm_weights.csv").open() as file:
        weights = {row[0]: lc.Weights(*map(float, row[1:])) for row in list(csv.reader(file))[1:]}
    errors = {}
    for model, row in leaderboard.items():
        if model in weights and model != "gpt4_1106_preview":
            published = float(row["length_controlled_winrate"])
            # Where rows were absent from the file, alpaca_eval took difficulties by row number, so the first n; where they were
            # there without a preference, all 805. The leaderboard does not say which.
            every, first = (lc.from_weights(weights[model], gamed_file.difficulty[:n]) for n in (805, int(row["n_total"])))
            errors[model] = min(abs(every - published), abs(first - published))
    assert len(errors) == 198
    assert sum(error <= 1e-6 for error in errors.values()) >= 196
    assert {model for model, error in errors.items() if error > 1e-6} == {"dbrx-instruct", "NullModel"}
    for size in ("7b", "13b", "70b"):
        assert errors[f"tulu-2-dpo-{size}"] <= 1e-9


def test_the_stable_folds_are_what_scikit_learn_makes_today():
    from sklearn.model_selection import GroupKFold

    n = 2415
    made = np.empty(n, dtype=int)
    for number, (_, test) in enumerate(GroupKFold(5).split(np.zeros(n), groups=np.arange(n))):
        made[test] = number
    version = tuple(map(int, importlib.import_module("sklearn").__version__.split(".")[:2]))
    if version < (1, 9):
        pytest.skip("scikit-learn < 1.9 sorts unstably, so its folds hang on the machine")
    assert (lc.folds(n, "stable") == made).all()


def test_the_leaderboards_folds_are_a_partition_of_even_size_and_not_the_stable_one():
    for n in range(2400, 2416):
        counts = np.bincount(lc.folds(n, "leaderboard"), minlength=5)
        assert counts.sum() == n
        assert counts.max() - counts.min() <= 1
        assert (lc.folds(n, "leaderboard") != lc.folds(n, "stable")).any()


def test_unknown_folds_are_an_error_that_says_what_is_known():
    with pytest.raises(ValueError, match=r"2400 to 2415 rows, not for 2000; use 'stable'"):
        lc.folds(2000, "leaderboard")


def test_rows_without_a_preference_stay_out_of_the_fit_and_in_the_mean(rows, gamed_file):
    full = rows["claude-2"]
    holes = full.preference.copy()
    holes[:5] = np.nan
    found = lc.fit(lc.JudgedRows(holes, full.difference, full.difficulty), gamed_file.gamed, c=2.782559402207126)
    assert found.value == pytest.approx(lc.from_weights(found.weights, full.difficulty), abs=1e-12)
    assert found.value != pytest.approx(lc.fit(full, gamed_file.gamed, c=2.782559402207126).value, abs=1e-6)
    assert lc.win_rate(holes).n_total == 800


def test_a_longer_model_is_worth_less_controlled(rows, gamed_file):
    """Twice the text at the same preferences: LC falls where the model becomes the longer one."""
    base = rows["claude-2"]
    longer = lc.JudgedRows(base.preference, base.difference - 4000 * (base.preference > 1.5), base.difficulty)
    assert lc.fit(longer, gamed_file.gamed, c=2.78).value < lc.fit(base, gamed_file.gamed, c=2.78).value


def test_the_grid_is_the_fit_at_each_constant(rows, gamed_file):
    base = rows["claude-2"]
    found = lc.over_grid(base, gamed_file.gamed)
    assert tuple(one.c for one in found) == lc.CS
    assert found[5] == lc.fit(base, gamed_file.gamed, c=lc.CS[5])
    assert found[-1].value == pytest.approx(28.108327853952126, abs=1e-6)


def test_the_bootstrap_covers_the_estimate_is_repeatable_and_refits(rows, gamed_file):
    base = rows["gpt-3.5-turbo-1106"]
    point = lc.fit(base, gamed_file.gamed)
    one = lc.bootstrap(base, gamed_file.gamed, point.c, draws=100, seed=1)
    assert one == lc.bootstrap(base, gamed_file.gamed, point.c, draws=100, seed=1)
    assert one.low < point.value < one.high
    predictions = 100 * lc.sigmoid(point.weights.constant + point.weights.difficulty * base.difficulty)
    package_error = predictions.std(ddof=1) / math.sqrt(len(predictions))
    assert one.standard_error > 2 * package_error  # the package's "lc_standard_error" is no error of LC


def test_what_cannot_be_fitted_is_said(rows, gamed_file):
    base = rows["alpaca-7b"]
    with pytest.raises(ValueError, match="do not vary"):
        lc.fit(lc.JudgedRows(base.preference, np.ones(805), base.difficulty), gamed_file.gamed)
    with pytest.raises(ValueError, match="no row is judged"):
        lc.fit(lc.JudgedRows(np.full(805, np.nan), base.difference, base.difficulty), gamed_file.gamed)
    with pytest.raises(ValueError, match=r"3\.0 is not within"):
        lc.win_rate(np.array([1.0, 3.0]))


preferences = st.lists(st.one_of(st.floats(1, 2), st.sampled_from([0.0, 1.0, 1.5, 2.0, float("nan")])), min_size=1, max_size=50)


@given(preferences)
@settings(max_examples=200, deadline=None)
def test_win_rate_properties(values):
    array = np.array(values)
    if np.isnan(array).all():
        with pytest.raises(ValueError, match="no row is judged"):
            lc.win_rate(array)
        return
    found = lc.win_rate(array)
    mirrored = lc.win_rate(np.where(array == 0, 0.0, 3.0 - array))
    assert 0 <= found.win_rate <= 100
    assert found.win_rate + mirrored.win_rate == pytest.approx(100, abs=1e-9)
    assert found.n_wins + found.n_wins_base + found.n_draws == found.n_total == int((~np.isnan(array)).sum())
    assert (found.n_wins, found.n_wins_base) == (mirrored.n_wins_base, mirrored.n_wins)


@settings(deadline=None)
@given(st.floats(-30, 30), st.floats(-30, 30))
def test_a_larger_constant_is_a_larger_win_rate(left, right):
    difficulty = np.linspace(-2, 2, 9)
    low, high = sorted((left, right))
    assert lc.from_weights(lc.Weights(0, 1, low), difficulty) <= lc.from_weights(lc.Weights(0, 1, high), difficulty) + 1e-9
