"""A score's rows: intervals span failures, LC over the grid of C, and signatures that nobody can forge."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import pytest

from tulu_eval.judging.annotations import Annotations, read_annotations
from tulu_eval.judging.gamed import GamedFile, load_gamed
from tulu_eval.judging.judge_recipe import ORIGINAL_JUDGE, PROMPT_SHA256
from tulu_eval.judging.judged import Judge, Terms, from_annotations, terms_of
from tulu_eval.judging.numbers import (
    JudgeSettings,
    by_original_judge,
    label,
    other_scale,
    results,
    settings_of,
    signature,
)
from tulu_eval.judging.win_rates import Score, Scoring, score
from tulu_eval.reports import judge as report


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    return shared / "data" / "alpaca_eval"


@pytest.fixture(scope="module")
def gamed(folder: Path) -> GamedFile:
    return load_gamed(folder / "df_gamed_rederived.csv")


@pytest.fixture(scope="module")
def annotations(folder: Path) -> Annotations:
    return read_annotations(folder / "models/claude-2/annotations_weighted_alpaca_eval_gpt4_turbo.json")


@pytest.fixture(scope="module")
def scored(annotations: Annotations, gamed: GamedFile) -> Score:
    return score(from_annotations(annotations), terms_of(annotations), gamed, Scoring(draws=20))


def failed(annotations: Annotations, kind: str, n: int = 5) -> list[object]:
    rows = from_annotations(annotations)
    return [dataclasses.replace(row, preference=None, kind=kind) for row in rows[:n]] + rows[n:]


@pytest.mark.parametrize("kind", ["missing", "endpoint", "refusal", "not_asked"])
def test_an_interval_spans_what_the_judge_failed_on(annotations: Annotations, gamed: GamedFile, kind: str) -> None:
    rows, terms = failed(annotations, kind), terms_of(annotations)
    found = score(rows, terms, gamed, Scoring(partial=True, draws=20))
    lc, raw = results(found)
    assert raw.counts["judge_error"] == lc.counts["judge_error"] == found.errors == 5
    assert (raw.interval, lc.interval) == ("normal95+failures", "bootstrap95-refit-20+failures")
    ends = []
    for value in (1.0, 2.0):
        filled = [dataclasses.replace(row, preference=value, kind="judged") if row.preference is None else row for row in rows]
        ends.append(results(score(filled, terms, gamed, Scoring(draws=20, c=found.lc.c if found.lc else None))))
    for at, row in enumerate((lc, raw)):
        assert row.low == pytest.approx(ends[0][at].low, abs=1e-9)
        assert row.high == pytest.approx(ends[1][at].high, abs=1e-9)
    assert raw.value == found.win_rate.win_rate, "the value stands on what was judged, as published"


def test_an_answer_without_a_verdict_is_dropped_as_published_and_is_no_failure(annotations: Annotations) -> None:
    found = score(failed(annotations, "no_verdict"), terms_of(annotations), None)
    (raw,) = results(found)
    assert (raw.counts["judge_error"], raw.counts["no_answer"], raw.counts["ok"], raw.n) == (0, 5, 800, 800)
    assert raw.interval == "normal95"
    assert found.account().endswith(" + 5 without a verdict")


@pytest.mark.parametrize("model", ["alpaca-7b", "claude-2", "gpt-3.5-turbo-1106"])
def test_lc_at_the_published_c_and_over_the_grid(folder: Path, gamed: GamedFile, model: str) -> None:
    with (folder / "lc_reference.csv").open() as file:
        published = next(row for row in csv.DictReader(file) if row["model"] == model)
    c, value = float(published["C_leaderboard"]), float(published["length_controlled_winrate"])
    found = read_annotations(folder / "models" / model / "annotations_weighted_alpaca_eval_gpt4_turbo.json")
    made = score(from_annotations(found), terms_of(found), gamed, Scoring(draws=0, c=c))
    assert made.lc is not None
    assert made.lc.value == pytest.approx(value, abs=1e-8)
    assert [fit.value for fit in made.grid if fit.c == pytest.approx(c)] == [pytest.approx(value, abs=1e-8)]
    assert made.lc_range is not None
    assert made.lc_range[0] <= value + 1e-8
    assert made.lc_range[1] >= value - 1e-8
    assert 0.001 < made.lc_range[1] - made.lc_range[0] < 0.3
    assert len(made.grid) == 10
    low, high = made.lc_range
    assert f"(2.78 to 10000) it is {low:.3f} to {high:.3f}, over the whole grid" in report.as_text(made, results(made), [])
    data = report.as_json(made, results(made), [])
    assert data["lc_range"] == (low, high)
    assert [one["c"] for one in data["lc_over_grid"]] == [fit.c for fit in made.grid]


def test_a_given_c_is_in_the_signature_and_files_the_number_apart(annotations: Annotations, gamed: GamedFile) -> None:
    made = score(from_annotations(annotations), terms_of(annotations), gamed, Scoring(draws=0, c=21.54434690031882))
    assert "|lc:v1|folds:none|C:21.54434690031882|" in signature(made)
    assert label(made) == "gpt-4-1106-preview, C = 21.54434690031882"
    assert not any(map(by_original_judge, results(made)))
    assert settings_of(results(made)).scoring.c == 21.54434690031882


def test_settings_are_read_back_from_the_rows(scored: Score, annotations: Annotations, gamed: GamedFile) -> None:
    assert settings_of(results(scored)) == JudgeSettings(Scoring(draws=20), False, lc=True, gamed="re-derived")
    stable = score(from_annotations(annotations), terms_of(annotations), gamed, Scoring(folds="stable", draws=0))
    assert settings_of(results(stable)) == JudgeSettings(Scoring(folds="stable", draws=0), False, lc=True, gamed="re-derived")
    raw = score(from_annotations(annotations), terms_of(annotations), None)
    assert settings_of(results(raw)) == JudgeSettings(Scoring(draws=0), False)
    lc, win = results(scored)
    for bad in (
        [lc],
        [dataclasses.replace(lc, interval="bootstrap95-refit-99999999"), win],
        [lc, dataclasses.replace(win, signature=win.signature.replace("folds:leaderboard", "folds:mine"))],
    ):
        with pytest.raises(ValueError, match=r"no win_rate|no row is made with|not known"):
            settings_of(bad)


def test_no_name_of_a_judge_forges_a_signature(annotations: Annotations) -> None:
    name = f"x|judge:{ORIGINAL_JUDGE}|by:logprobs|prompt:{PROMPT_SHA256[:8]}"
    (raw,) = results(score(from_annotations(annotations), Terms(Judge(name, "text", ""), annotations.baseline), None))
    assert not by_original_judge(raw)
    assert raw.signature.count("|") == 5


def test_a_row_of_a_version_that_recorded_no_baseline_is_never_on_the_published_scale(annotations: Annotations) -> None:
    terms = dataclasses.replace(terms_of(annotations), baseline=None)
    (raw,) = results(score(from_annotations(annotations), terms, None))
    assert "|b:" not in raw.signature
    assert not by_original_judge(raw)
    assert other_scale(raw) == "gpt-4-1106-preview, baseline not recorded"
