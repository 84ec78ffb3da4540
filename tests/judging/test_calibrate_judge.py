"""Calibrates a replacement judge whose relation to the original is known."""

from __future__ import annotations

import dataclasses
import random

import pytest

from tulu_eval.benchmarks.alpaca_baselines import known
from tulu_eval.errors import DataError, UserError
from tulu_eval.judging.annotations import read_annotations
from tulu_eval.judging.calibrate_judge import calibrate, describe, draw, stratum
from tulu_eval.judging.judge_recipe import swapped
from tulu_eval.judging.judged import Judge, Judged, Terms
from tulu_eval.judging.numbers import results
from tulu_eval.judging.record import calibrated, read_calibration, write_calibration
from tulu_eval.judging.win_rates import score

MODELS = ("alpaca-7b", "claude-2", "gpt-3.5-turbo-1106")


@pytest.fixture(scope="module")
def annotations(shared):
    folder = shared / "data" / "alpaca_eval" / "models"
    return {
        model: read_annotations(folder / model / "annotations_weighted_alpaca_eval_gpt4_turbo.json").rows for model in MODELS
    }


def measured(sample, preferences):
    return calibrate(sample, preferences, "other", "logprobs", "0" * 64)


def test_the_sample_is_stratified_and_grows(annotations):
    small, large = draw(annotations, 150), draw(annotations, 400)
    assert 140 <= len(small) <= 200
    keys = [{(one.model, one.annotation.instruction) for one in sample} for sample in (small, large)]
    assert keys[0] <= keys[1]
    assert len(keys[1]) == len(large)
    everywhere = {(model, stratum(row)) for model, rows in annotations.items() for row in rows if row.baseline != row.output}
    assert {(one.model, stratum(one.annotation)) for one in small} == everywhere
    assert sum(one.weight for one in small) == pytest.approx(2407)
    assert draw(annotations, 150) == small
    assert draw(annotations, 150, seed=1) != small


def test_the_weights_bring_back_the_win_rate(annotations):
    sample = draw(annotations, 600)
    rows = [row for model in MODELS for row in annotations[model] if row.baseline != row.output]
    whole = sum(row.preference for row in rows) / len(rows)
    weighted = sum(one.weight * one.annotation.preference for one in sample) / sum(one.weight for one in sample)
    assert weighted == pytest.approx(whole, abs=0.01)


def test_the_original_itself_agrees_with_itself(annotations):
    sample = draw(annotations, 300)
    found = measured(sample, [one.annotation.preference for one in sample])
    assert (found.agreement, found.failed) == (pytest.approx(1.0), 0)
    assert found.kappa == pytest.approx(1.0)
    assert found.slope == pytest.approx(1.0)
    assert found.intercept == pytest.approx(0.0, abs=1e-12)
    assert found.residual_se == pytest.approx(0.0, abs=1e-9)
    assert found.replacement_bias == found.original_bias
    assert found.apply(20.0, 1.0) == (pytest.approx(20.0), pytest.approx(1.0))


def test_a_known_mapping_is_found_and_adds_its_variance(annotations):
    sample = draw(annotations, 600)
    rng = random.Random(0)
    noisy = [min(2.0, max(1.0, 1.2 + 0.5 * (one.annotation.preference - 1) + rng.gauss(0, 0.01))) for one in sample]
    found = measured(sample, noisy)
    assert found.slope == pytest.approx(2.0, abs=0.15)
    estimate, error = found.apply(100 * (0.2 + 0.5 * 0.10), 0.5)
    assert estimate == pytest.approx(10.0, abs=1.0)
    assert error > found.slope * 0.5
    assert found.between_se is not None
    assert "added standard error, points" in describe(found)
    assert describe(found).startswith("other (logprobs) against the original judge: ")


def test_a_coin_has_no_kappa(annotations):
    sample = draw(annotations, 600)
    rng = random.Random(1)
    found = measured(sample, [rng.choice([1.0, 2.0]) for _ in sample])
    assert abs(found.kappa) < 0.1
    assert abs(found.slope) < 0.1


def test_a_judge_that_goes_by_position_or_length_shows_it(annotations):
    sample = draw(annotations, 300)
    first = measured(sample, [2.0 if swapped(one.annotation.instruction) else 1.0 for one in sample])
    assert first.replacement_bias.position == pytest.approx(1.0)
    assert first.original_bias.position == pytest.approx(0.5, abs=0.1)
    longer = measured(sample, [2.0 if len(one.annotation.output) > len(one.annotation.baseline) else 1.0 for one in sample])
    assert longer.replacement_bias.length > longer.original_bias.length


def test_failures_are_counted_and_too_few_are_refused(annotations):
    sample = draw(annotations, 100)
    preferences = [None if at % 2 else one.annotation.preference for at, one in enumerate(sample)]
    found = measured(sample, preferences)
    assert found.n + found.failed == len(sample)
    assert found.failed == len(sample) // 2
    with pytest.raises(UserError, match=r"judged 0 of \d+ pairs; a calibration needs 30 or more"):
        measured(sample, [None] * len(sample))
    with pytest.raises(UserError, match="the same preference"):
        measured(sample, [2.0] * len(sample))
    with pytest.raises(UserError, match="20 is too few"):
        draw(annotations, 20)


def test_one_model_alone_knows_nothing_between_models(annotations):
    sample = draw({"claude-2": annotations["claude-2"]}, 100)
    found = measured(sample, [one.annotation.preference for one in sample])
    assert found.between_se is None
    assert "one model only" in describe(found)
    assert dataclasses.replace(found, residual_se=3.0).apply(10.0, 4.0)[1] == pytest.approx(5.0)


def terms(judge):
    return Terms(Judge(judge, "logprobs", "0" * 64), known()[0].baseline)


def test_a_calibration_is_kept_and_makes_an_estimate_with_a_wider_interval(annotations, tmp_path):
    rows = list(annotations["claude-2"])
    sample = draw(annotations, 300)
    found = measured(sample, [min(2.0, 1.1 + 0.5 * (one.annotation.preference - 1)) for one in sample])
    write_calibration(tmp_path / "calibration.json", found)
    assert read_calibration(tmp_path / "calibration.json") == found
    judged = [Judged(row.place, row.preference, len(row.baseline), len(row.output), "judged") for row in rows]
    scored = score(judged, terms("other"), None)
    made, raw = calibrated(scored, found), results(scored)[-1]
    assert (made.metric, made.scorer, made.interval) == ("win_rate_calibrated", "other", "normal95+calibration")
    assert made.low < made.value < made.high
    assert made.high - made.low > raw.high - raw.low
    assert made.signature.endswith(f"|calibrated:{found.n} pairs of 3 models")
    holes = [dataclasses.replace(row, preference=None, kind="endpoint") for row in judged[:40]] + judged[40:]
    spanned = calibrated(score(holes, terms("other"), None), found)
    assert spanned.interval == "normal95+calibration+failures"
    assert spanned.high - spanned.low > made.high - made.low
    with pytest.raises(UserError, match="maps to the scale with the baseline gpt4_1106_preview, which is not"):
        calibrated(dataclasses.replace(scored, terms=dataclasses.replace(scored.terms, baseline=None)), found)
    with pytest.raises(UserError, match=r"the calibration is of other \(logprobs\), the score of another"):
        calibrated(dataclasses.replace(scored, terms=terms("another")), found)
    (tmp_path / "bad.json").write_text('{"judge": 1}')
    with pytest.raises(DataError, match="is not a calibration"):
        read_calibration(tmp_path / "bad.json")
