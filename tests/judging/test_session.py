"""From outputs to a number, end to end against the loopback."""

from __future__ import annotations

import json

import pytest

from tulu_eval.benchmarks.alpaca_baselines import known
from tulu_eval.errors import DataError, PreflightError, UserError
from tulu_eval.judging import gamed, numbers
from tulu_eval.judging.annotations import read_annotations
from tulu_eval.judging.budget import Budget, Price
from tulu_eval.judging.cache import Cache
from tulu_eval.judging.calibrate_judge import draw
from tulu_eval.judging.endpoint_judge import HttpJudge
from tulu_eval.judging.judge import JudgeJob
from tulu_eval.judging.judged import Judge
from tulu_eval.judging.outputs import Outputs, read_outputs
from tulu_eval.judging.record import read_judgments
from tulu_eval.judging.session import annotated, calibrate_judge, execute, prepare, score_files
from tulu_eval.judging.win_rates import Scoring, score

ANNOTATIONS = "annotations_weighted_alpaca_eval_gpt4_turbo.json"


@pytest.fixture(scope="module")
def folder(shared):
    return shared / "data" / "alpaca_eval"


@pytest.fixture
def scoring(folder):
    return Scoring(gamed=folder / "df_gamed_rederived.csv", draws=20)


@pytest.fixture
def outputs(folder):
    return read_outputs(folder / "models" / "claude-2" / "model_outputs.json")


def test_all_805_are_judged_scored_and_written_without_text(loopback, recipe, folder, outputs, scoring, cache_path, tmp_path):
    out = tmp_path / "judge"
    with loopback() as server, Cache(cache_path) as cache:
        job = JudgeJob(recipe, cache, Budget(Price(10.0, 30.0, "test"), max_cost=5.0), server.url)
        ready = prepare(outputs, job, scoring, folder / "alpaca_eval_gpt4_baseline.json")
        assert sum(server.requests.values()) == 0
        assert ready.estimate.requests == 804
        assert ready.screen.flags == []
        found = execute(ready, HttpJudge(server.url, concurrency=4, timeout=30), out)
        assert sum(server.requests.values()) == 804
    assert str(found.judging) == "805 = 804 judged + 0 failed + 1 identical"
    lc, raw = found.results
    assert (lc.metric, lc.n, lc.scorer) == ("lc_win_rate", 805, "loopback-judge")
    assert raw.value == pytest.approx(50, abs=5)
    manifest = json.loads((out / "judging.json").read_text())
    assert manifest["counts"]["judged"] == 804
    assert manifest["spent"]["dollars"] == pytest.approx(804 * (100 * 10 + 30) / 1e6)
    assert manifest["where"] == server.url
    assert manifest["generator"] == "claude-2"
    texts = "".join((out / name).read_text() for name in ("judging.json", "judgments.jsonl"))
    texts += cache_path.read_text()
    for row in read_annotations(out / "annotations.json").rows[:50]:
        for text in (row.instruction, row.baseline, row.output):
            assert len(text) < 12 or text not in texts
    stored = read_judgments(out / "judgments.jsonl")
    assert stored.baseline == known()[0].baseline
    again = score(stored.judged(), stored.terms(Judge.of(recipe)), ready.gamed, Scoring(draws=20))
    assert again.lc == found.score.lc


def test_a_few_are_a_raw_win_rate(loopback, recipe, folder, outputs, cache_path, tmp_path):
    with loopback() as server, Cache(cache_path) as cache:
        job = JudgeJob(recipe, cache, Budget())
        ready = prepare(outputs, job, baseline=folder / "alpaca_eval_gpt4_baseline.json", limit=16)
        found = execute(ready, HttpJudge(server.url), tmp_path / "judge")
    (raw,) = found.results
    assert (raw.metric, raw.n, raw.n_protocol, raw.partial) == ("win_rate", 16, 805, True)
    assert found.score.lc is None


def test_what_lc_needs_is_had_before_the_judge_is_paid(recipe, folder, outputs, cache_path, tmp_path, monkeypatch):
    def refuse(name, flag):
        raise PreflightError(f"{name} is not reachable")

    monkeypatch.setattr(gamed, "fetch", refuse)
    baseline = folder / "alpaca_eval_gpt4_baseline.json"
    with Cache(cache_path) as cache:
        job = JudgeJob(recipe, cache, Budget())
        with pytest.raises(PreflightError, match=r"df_gamed\.csv is not reachable"):
            prepare(outputs, job, baseline=baseline)
        (tmp_path / "df_gamed.csv").write_text("other")
        with pytest.raises(DataError, match=r"is not df_gamed\.csv"):
            prepare(outputs, job, Scoring(gamed=tmp_path / "df_gamed.csv"), baseline)
        with pytest.raises(UserError, match="no output to judge"):
            prepare(Outputs("none", {}), job, baseline=baseline)
        with pytest.raises(UserError, match="--limit must be 1 or more"):
            prepare(outputs, job, baseline=baseline, limit=0)


def test_published_files_are_scored_and_checked_to_belong_together(folder, scoring, outputs, tmp_path):
    models = folder / "models"
    found = score_files(models / "claude-2" / ANNOTATIONS, outputs, scoring)
    assert found.score.lc.value == pytest.approx(28.155196141629148, abs=1e-8)
    assert found.flags == []
    with pytest.raises(UserError, match=r"other outputs than those given: 80\d of 805 differ, the first is instruction 1"):
        score_files(models / "claude-2" / ANNOTATIONS, read_outputs(models / "alpaca-7b" / "model_outputs.json"), scoring)
    rows = json.loads((models / "claude-2" / "model_outputs.json").read_text())
    rows[7]["output"] += " "
    (tmp_path / "mine.json").write_text(json.dumps(rows))
    with pytest.raises(UserError, match="1 of 805 differ, the first is instruction 8"):
        score_files(models / "claude-2" / ANNOTATIONS, read_outputs(tmp_path / "mine.json"), scoring)


def test_a_tie_of_an_older_judge_is_a_tie(folder, scoring, tmp_path):
    published = json.loads((folder / "models" / "claude-2" / ANNOTATIONS).read_text())
    rows = [{**row, "annotator": "alpaca_eval_gpt4"} for row in published]
    made = []
    for preference in (0, 1.5):
        rows[5]["preference"] = preference
        (tmp_path / "a.json").write_text(json.dumps(rows))
        found = score_files(tmp_path / "a.json", scoring=Scoring(gamed=scoring.gamed, draws=0)).score
        made.append((found.lc, found.win_rate))
    assert made[0] == made[1]


def test_positional_mode_is_what_was_published_of_rows_in_order_and_wrong_of_a_subset(folder, scoring, tmp_path):
    path = folder / "models" / "claude-2" / ANNOTATIONS
    assert score_files(path, scoring=scoring, positional=True).score.lc == score_files(path, scoring=scoring).score.lc
    rows = json.loads(path.read_text())
    (tmp_path / "some.json").write_text(json.dumps(rows[3:]))
    part = Scoring(gamed=scoring.gamed, partial=True, draws=0)
    by_text, by_row = (score_files(tmp_path / "some.json", scoring=part, positional=mode).score for mode in (False, True))
    assert numbers.label(by_row).endswith(", difficulties by row")
    assert abs(by_text.lc.value - 28.155) < abs(by_row.lc.value - 28.155)


def test_a_replacement_is_calibrated_end_to_end(loopback, recipe, folder, cache_path):
    rows = annotated({name: folder / "models" / name / ANNOTATIONS for name in ("claude-2", "alpaca-7b")})
    sample = draw(rows, 120)
    with loopback() as server, Cache(cache_path) as cache:
        found, judging = calibrate_judge(sample, JudgeJob(recipe, cache, Budget()), HttpJudge(server.url))
    assert found.n == len(sample) == sum(server.served.values())
    assert found.models == ("alpaca-7b", "claude-2")
    assert abs(found.kappa) < 0.3  # the loopback judges by a hash
    assert judging.failed == 0


def test_only_the_originals_annotations_calibrate(folder, tmp_path):
    rows = json.loads((folder / "models" / "claude-2" / ANNOTATIONS).read_text())
    for row in rows:
        row["annotator"] = "alpaca_eval_gpt4"
    (tmp_path / "ae1.json").write_text(json.dumps(rows))
    with pytest.raises(UserError, match="was judged by alpaca_eval_gpt4, not by the original"):
        annotated({"x": tmp_path / "ae1.json"})
