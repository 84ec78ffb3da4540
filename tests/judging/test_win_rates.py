"""Scores from published files and from judgments: the numbers, the account of all rows, and scores without LC."""

from __future__ import annotations

import dataclasses
import json

import pytest

from tulu_eval.benchmarks.alpaca_set import load_baseline
from tulu_eval.errors import UserError
from tulu_eval.judging.annotations import read_annotations
from tulu_eval.judging.gamed import load_gamed
from tulu_eval.judging.judge import Judgment
from tulu_eval.judging.judge_recipe import PROMPT_SHA256, Pair
from tulu_eval.judging.judged import Judge, Terms, annotator_judge, from_annotations, from_judgments, terms_of
from tulu_eval.judging.numbers import results, signature
from tulu_eval.judging.win_rates import Scoring, score
from tulu_eval.records import Result, to_json


@pytest.fixture(scope="module")
def folder(shared):
    return shared / "data" / "alpaca_eval"


@pytest.fixture(scope="module")
def gamed(folder):
    return load_gamed(folder / "df_gamed_rederived.csv")


@pytest.fixture(scope="module")
def annotations(folder):
    return read_annotations(folder / "models" / "claude-2" / "annotations_weighted_alpaca_eval_gpt4_turbo.json")


def test_a_published_model_is_scored_offline(annotations, gamed):
    found = score(from_annotations(annotations), terms_of(annotations), gamed, Scoring(draws=50))
    assert found.lc.value == pytest.approx(28.155196141629148, abs=1e-8)
    assert found.win_rate.win_rate == pytest.approx(17.188240356708075, abs=1e-9)
    assert found.judge.original
    assert found.account() == "805 = 804 judged + 0 failed + 1 identical"
    assert not found.partial
    assert found.interval.low < found.lc.value < found.interval.high
    assert found.warning == ""
    far = dataclasses.replace(found, lc=found.lc._replace(value=40.0))
    assert far.warning == "LC 40.0 is far from the raw win rate 17.2, which may be a failure of the fit"
    assert signature(found) == (
        "alpaca-eval|n:805/805|judge:gpt-4-1106-preview|by:logprobs|prompt:784227e6|b:gpt4_1106_preview@170a7549"
        "|lc:v1|folds:leaderboard|C:2.78256|gamed:re-derived"
    )


def test_results_go_to_tables_and_back(annotations, gamed):
    lc, raw = results(score(from_annotations(annotations), terms_of(annotations), gamed, Scoring(draws=50)))
    assert (lc.metric, raw.metric, lc.interval, raw.interval) == ("lc_win_rate", "win_rate", "bootstrap95-refit-50", "normal95")
    assert lc.counts == {"ok": 805, "empty": 0, "truncated": 0, "no_answer": 0, "engine_error": 0, "judge_error": 0}
    for row in (lc, raw):
        assert row.low < row.value < row.high
        assert not row.partial
        assert Result.from_json(json.loads(to_json(row))) == row


def test_one_row_less_has_no_lc_and_says_why(annotations, gamed):
    rows = from_annotations(annotations)
    rows[5] = dataclasses.replace(rows[5], preference=None, kind="missing")
    found = score(rows, terms_of(annotations), gamed)
    assert found.lc is None
    assert found.interval is None
    assert (
        found.why_no_lc == "only 804 of the 805 instructions have a preference, and a subset has no length-controlled win rate"
    )
    assert found.account() == "805 = 803 judged + 1 failed (missing 1) + 1 identical"
    (raw,) = results(found)
    assert (raw.metric, raw.n, raw.n_protocol, raw.partial, raw.counts["judge_error"]) == ("win_rate", 804, 805, True, 1)


def test_absent_rows_are_counted_and_are_no_failures(annotations, gamed):
    found = score(from_annotations(annotations)[100:], terms_of(annotations), gamed)
    assert found.account().startswith("805 = ")
    assert found.counts["absent"] == 100
    assert found.errors == 0
    assert found.account().endswith(" identical + 100 absent")
    assert sum(found.counts.values()) == 805
    assert found.lc is None


def test_partial_is_asked_for_and_marked_and_uses_the_right_difficulties(annotations, gamed):
    rows = from_annotations(annotations)
    half = rows[1::2]
    found = score(half, terms_of(annotations), gamed, Scoring(folds="stable", partial=True, draws=0))
    assert found.partial
    assert found.lc is not None
    assert results(found)[0].partial
    wrong = [dataclasses.replace(row, place=at) for at, row in enumerate(half)]  # as alpaca_eval does, by row number
    assert score(wrong, terms_of(annotations), gamed, Scoring(folds="stable", partial=True, draws=0)).lc.value != pytest.approx(
        found.lc.value, abs=0.1
    )


def test_the_leaderboards_folds_for_too_few_rows_are_a_reason_not_a_crash(annotations, gamed):
    found = score(from_annotations(annotations)[:100], terms_of(annotations), gamed, Scoring(partial=True))
    assert found.lc is None
    assert "use 'stable'" in found.why_no_lc


def test_the_baseline_against_itself_is_50_by_construction(annotations, gamed):
    rows = [dataclasses.replace(row, preference=1.5, kind="identical") for row in from_annotations(annotations)]
    found = score(rows, terms_of(annotations), gamed)
    assert found.lc.value == 50.0
    assert found.account() == "805 = 0 judged + 0 failed + 805 identical"


def test_without_the_gamed_rows_there_is_a_raw_win_rate(annotations):
    found = score(from_annotations(annotations), terms_of(annotations), None)
    assert found.why_no_lc == "no df_gamed.csv was given"
    assert found.win_rate.win_rate == pytest.approx(17.188240356708075, abs=1e-9)


def test_nothing_judged_is_one_line(annotations, gamed):
    rows = [dataclasses.replace(row, preference=None, kind="missing") for row in from_annotations(annotations)]
    with pytest.raises(UserError, match="there is nothing to score"):
        score(rows, terms_of(annotations), gamed)


def test_a_text_verdict_is_filed_under_a_judge_of_its_own(annotations, gamed):
    rows = from_annotations(annotations)
    weighed, read = (
        results(score(rows, Terms(Judge("some-judge", method, PROMPT_SHA256), annotations.baseline), None))
        for method in ("logprobs", "text")
    )
    assert ({row.scorer for row in weighed}, {row.scorer for row in read}) == ({"some-judge"}, {"some-judge (text)"})


def test_another_judge_is_another_judge(annotations, recipe, folder):
    assert not Judge.of(recipe).original
    first = annotator_judge(dataclasses.replace(annotations, annotator="alpaca_eval_gpt4"))
    assert (first.original, first.edition.title, first == annotator_judge(annotations)) == (True, "AlpacaEval 1", False)
    assert not annotator_judge(dataclasses.replace(annotations, annotator="chatgpt")).original
    row = load_baseline(folder / "alpaca_eval_gpt4_baseline.json")[7]
    pair = Pair("alpaca-7", row.instruction, row.baseline, "four")
    (made,) = from_judgments([pair], [Judgment("alpaca-7", "k", "judged", 2.0, False)])
    assert (made.place, made.preference, made.output_characters) == (7, 2.0, 4)
    with pytest.raises(UserError, match="is not one of AlpacaEval's 805"):
        from_judgments([dataclasses.replace(pair, instruction="other")], [Judgment("x", "k", "judged", 2.0, False)])
