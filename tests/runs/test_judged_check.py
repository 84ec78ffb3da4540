"""A judge's folder is computed again whenever it is read: what was forged, hashes and all, is named."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tulu_eval.errors import DataError, UserError
from tulu_eval.judging import gamed
from tulu_eval.judging.numbers import results
from tulu_eval.judging.session import score_files
from tulu_eval.judging.win_rates import Scoring
from tulu_eval.records import Result, content_hash, to_json
from tulu_eval.runs import rescored
from tulu_eval.runs.judge import checked
from tulu_eval.runs.judged_check import read_judged
from tulu_eval.store.manifest import Recorded, write_results

OLD = Path(__file__).with_name("old_judged")
"""Written before baselines were recorded."""


@pytest.fixture(scope="module")
def kept(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """claude-2's annotations, scored and kept; 20 draws, for the time."""
    folder = shared / "data" / "alpaca_eval"
    path = folder / "models/claude-2/annotations_weighted_alpaca_eval_gpt4_turbo.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        scored = score_files(path, None, Scoring(folder / "df_gamed_rederived.csv", draws=20))
        return rescored.keep(tmp_path_factory.mktemp("results"), path, scored, results(scored.score))


@pytest.fixture(autouse=True)
def cached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shared: Path) -> None:
    """A cache of the test's own that has the gamed rows."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    gamed.load_gamed(shared / "data/alpaca_eval/df_gamed_rederived.csv")


@pytest.fixture
def judged(kept: Path, tmp_path: Path) -> Path:
    """A copy to forge."""
    return Path(shutil.copytree(kept, tmp_path / "judged"))


def forge(folder: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Changes rows and makes the hash right again."""
    data = json.loads((folder / "result.json").read_text())
    change(data["results"])
    write_results(folder, Recorded(tuple(map(Result.from_json, data["results"])), data["samples_sha256"]))


def rewrite(folder: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Changes judgments and makes the hash right again."""
    path = folder / "judgments.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    change(lines)
    path.write_text("".join(to_json(line) + "\n" for line in lines))
    data = json.loads((folder / "result.json").read_text())
    write_results(folder, Recorded(tuple(map(Result.from_json, data["results"])), content_hash(path.read_text())))


def each(rows: list[dict[str, Any]], change: Callable[[dict[str, Any]], object]) -> None:
    for row in rows:
        change(row)


def replaced(rows: list[dict[str, Any]], old: str, new: str) -> None:
    each(rows, lambda row: row.update(signature=row["signature"].replace(old, new)))


def test_what_was_kept_is_computed_again(judged: Path) -> None:
    found = read_judged(judged)
    assert (found.doubts, found.unchecked) == ((), ())
    stored = json.loads((judged / "result.json").read_text())["results"]
    assert [row.to_fields() for row in found.rows] == stored
    assert found.lc_range == (pytest.approx(28.1083, abs=1e-4), pytest.approx(28.1552, abs=1e-4))


@pytest.mark.parametrize(
    ("row", "field", "value", "doubt"),
    [
        (0, "value", 99.0, "value of lc_win_rate is 99.000000, and judgments.jsonl gives 28.155196"),
        (1, "value", 99.0, "value of win_rate is 99.000000, and judgments.jsonl gives 17.188240"),
        (0, "low", 28.1, "low of lc_win_rate is 28.100000"),
        (1, "high", 17.3, "high of win_rate is 17.300000"),
        (0, "n", 804, "n of lc_win_rate is 804, and judgments.jsonl gives 805"),
        (1, "scorer", "another", "scorer of win_rate is another"),
        (1, "interval", "wilson95", "interval of win_rate is wilson95"),
        (1, "protocol", "full", "protocol of win_rate is full"),
    ],
)
def test_a_forged_row_is_named(judged: Path, row: int, field: str, value: object, doubt: str) -> None:
    true = read_judged(judged).rows
    forge(judged, lambda rows: rows[row].update({field: value}))
    found = read_judged(judged)
    assert any(line.startswith(f"result.json: {doubt}") for line in found.doubts), found.doubts
    if field != "n":
        assert found.rows == true, "what is shown is what the judgments give"
    with pytest.raises(DataError, match=r"result\.json: "):
        checked(judged)


def test_forged_signatures_and_counts_are_named(judged: Path) -> None:
    forge(judged, lambda rows: each(rows, lambda row: row["counts"].update(ok=802, judge_error=3)))
    assert any("counts of win_rate is " in line for line in read_judged(judged).doubts)
    forge(judged, lambda rows: each(rows, lambda row: row["counts"].update(ok=805, judge_error=3)))
    with pytest.raises(DataError, match="n, n_protocol, counts and interval do not fit together"):
        read_judged(judged)
    forge(judged, lambda rows: each(rows, lambda row: row["counts"].update(judge_error=0)))
    forge(judged, lambda rows: replaced(rows, "C:2.78256", "C:21.5"))
    assert any("signature of lc_win_rate is " in line for line in read_judged(judged).doubts)


@pytest.mark.parametrize("change", [lambda rows: rows.pop(0), lambda rows: rows.append({**rows[1], "metric": "made_up"}),
                                    lambda rows: rows.append(rows[1])])  # fmt: skip
def test_rows_too_few_and_too_many_are_named(judged: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    forge(judged, change)
    assert read_judged(judged).doubts


@pytest.mark.parametrize(
    ("change", "doubt"),
    [
        ({"preference": 1.9}, "result.json: value of lc_win_rate"),
        ({"baseline_characters": 10}, "judgments.jsonl: alpaca-3 has 10 characters of the baseline, which wrote "),
        (
            {"kind": "identical", "preference": 1.5},
            "judgments.jsonl: alpaca-3 is identical, and its two",
        ),
        (
            {"baseline_sha256": "0" * 64},
            "result.json: scorer of lc_win_rate is gpt-4-1106-preview, and",
        ),
    ],
)
def test_forged_judgments_are_named(judged: Path, change: dict[str, Any], doubt: str) -> None:
    rewrite(judged, lambda lines: lines[3].update(change))
    doubts = read_judged(judged).doubts
    assert any(line.startswith(doubt) for line in doubts), doubts


FREE = ("annotator", "annotations_sha256", "baseline", "generator", "notes", "screen", "finished")
"""Fields of ``judging.json`` that no number is made of."""

HOSTILE: list[Any] = [None, 5, 10**400, -1.5, "x", [], {}, ["x"], {"a": 1}, True, "1" * 5000, "\ud800"]


@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_values_are_one_line_or_a_doubt(shared: Path, tmp_path: Path, value: Any) -> None:
    """Any value in any field of any of the three files, of 40 judgments: without LC each reading takes 3 ms."""
    path = shared / "data/alpaca_eval/models/claude-2/annotations_weighted_alpaca_eval_gpt4_turbo.json"
    (tmp_path / "a.json").write_text(json.dumps(json.loads(path.read_text())[:40]))
    scored = score_files(tmp_path / "a.json")
    judged = rescored.keep(tmp_path / "results", tmp_path / "a.json", scored, results(scored.score))
    assert read_judged(judged).doubts == ()
    manifest, whole = (judged / "judging.json").read_text(), {path: path.read_text() for path in judged.glob("*.json*")}
    for field in [*json.loads(manifest), "calibration"]:
        (judged / "judging.json").write_text(json.dumps({**json.loads(manifest), field: value}))
        named(judged, ignore=field in FREE or (field == "calibration" and not value))
    (judged / "judging.json").write_text(manifest)
    for field in json.loads((judged / "judgments.jsonl").read_text().split("\n")[0]):
        lines = whole[judged / "judgments.jsonl"].splitlines()
        lines[3] = json.dumps({**json.loads(lines[3]), field: value})
        (judged / "judgments.jsonl").write_text("\n".join(lines) + "\n")
        data = json.loads(whole[judged / "result.json"])
        body = {"format": 1, "results": data["results"], "samples_sha256": content_hash("\n".join(lines) + "\n")}
        (judged / "result.json").write_text(json.dumps({**body, "sha256": content_hash(body)}))
        named(judged, ignore=field in ("swapped", "question_sha256", "output_sha256", "output_characters"))
    for path, text in whole.items():
        path.write_text(text)
    for field in data["results"][0]:
        body = {**json.loads(whole[judged / "result.json"])}
        del body["sha256"]
        body["results"][0][field] = value
        try:
            (judged / "result.json").write_text(json.dumps({**body, "sha256": content_hash(body)}))
        except OverflowError:
            continue
        named(judged)


def named(folder: Path, ignore: bool = False) -> None:
    """Asserts that reading ends in one line, or in a doubt unless the field is of no consequence here."""
    try:
        doubts = list(read_judged(folder).doubts)
    except DataError as error:
        doubts = [str(error)]
    assert doubts or ignore
    assert not any("\n" in line for line in doubts)


def test_a_baseline_that_was_taken_out_is_not_put_back(judged: Path) -> None:
    rewrite(judged, lambda lines: each(lines, lambda line: line.pop("baseline_sha256")))
    forge(judged, lambda rows: replaced(rows, "|b:gpt4_1106_preview@170a7549", ""))
    found = read_judged(judged)
    assert found.doubts == ()
    assert not any("|b:" in row.signature for row in found.rows)
    rewrite(judged, lambda lines: lines[3].update(baseline_sha256="0" * 64))
    with pytest.raises(DataError, match="has the baseline's hash in only 1 of 805 judgments"):
        read_judged(judged)


def test_without_the_gamed_rows_lc_is_said_to_be_unchecked_and_the_rest_is_checked(
    judged: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    found = read_judged(judged)
    assert found.doubts == ()
    assert found.unchecked[0].startswith("lc_win_rate: not computed again, for df_gamed.csv (re-derived) is not here; ")
    assert [row.metric for row in found.rows] == ["lc_win_rate", "win_rate"]
    forge(judged, lambda rows: rows[1].update(value=99.0))
    assert read_judged(judged).doubts == ("result.json: value of win_rate is 99.000000, and judgments.jsonl gives 17.188240",)


def test_another_models_numbers_of_the_same_name_are_not_overwritten(shared: Path, tmp_path: Path) -> None:
    folder = shared / "data" / "alpaca_eval" / "models"
    for at, model in enumerate(("claude-2", "claude-2", "alpaca-7b")):
        rows = json.loads((folder / model / "annotations_weighted_alpaca_eval_gpt4_turbo.json").read_text())[: 20 + 10 * at]
        path = tmp_path / "a.json"
        path.write_text(json.dumps([{**row, "generator_2": "mine"} for row in rows]))
        scored = score_files(path)
        if model == "alpaca-7b":
            with pytest.raises(UserError, match=r"has verdicts on other outputs under the same name \(30 differ"):
                rescored.keep(tmp_path / "results", path, scored, results(scored.score))
        else:
            kept = rescored.keep(tmp_path / "results", path, scored, results(scored.score))
    assert read_judged(kept).rows[0].n == 30


def test_a_positional_score_is_computed_again_as_such(shared: Path, tmp_path: Path) -> None:
    folder = shared / "data" / "alpaca_eval"
    rows = json.loads((folder / "models/claude-2/annotations_weighted_alpaca_eval_gpt4_turbo.json").read_text())
    path = tmp_path / "a.json"
    path.write_text(json.dumps(rows[3:] + rows[:3]))
    scored = score_files(path, None, Scoring(folder / "df_gamed_rederived.csv", draws=0), positional=True)
    kept = rescored.keep(tmp_path / "results", path, scored, results(scored.score))
    found = read_judged(kept)
    assert (found.doubts, found.unchecked) == ((), ())
    assert "|places:rows|" in found.rows[0].signature


def test_a_folder_of_an_earlier_version_reads_and_is_not_upgraded() -> None:
    found = read_judged(OLD)
    assert (found.doubts, found.unchecked) == ((), ())
    (row,) = found.rows
    assert (round(row.value, 4), row.n, row.signature) == (
        54.1171, 79, "alpaca-eval|n:79/805|judge:smollm2-135m-instruct|by:logprobs|prompt:784227e6",
    )  # fmt: skip
    assert row.counts["judge_error"] == 0, "what was not in the run is no failure of the judge"


def test_an_earlier_folder_that_was_forged_is_named(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(OLD, tmp_path / "old"))
    forge(folder, lambda rows: rows[0].update(value=99.0))
    assert read_judged(folder).doubts == ("result.json: value of win_rate is 99.000000, and judgments.jsonl gives 54.117114",)


def test_judgments_that_are_endless_are_refused_at_once(judged: Path) -> None:
    os.truncate(judged / "judgments.jsonl", 2 << 30)
    with pytest.raises(DataError, match="cannot be read, so result"):
        read_judged(judged)
