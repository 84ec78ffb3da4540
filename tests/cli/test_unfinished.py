"""A run that was stopped: what finished first is the short answers, so it has no interval, no verdict and no place anywhere."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Run = Callable[..., Result]
MakeRun = Callable[..., Path]
MODEL = "allenai/tulu-v2.5-ppo-13b-uf-mean-70b-uf-rm"
SAID = (
    "unfinished: 6 of 16 planned samples are there, the short ones, which finish first, or the few that 'explain' tried; "
    "they stand for no others"
)


@pytest.fixture
def stopped(make_run: MakeRun) -> Path:
    """Sixteen items, six of them finished: the first three of the order, and three others."""
    return make_run(right=3, limit=16, finish=[9, 0, 14, 2, 1, 7])


@pytest.fixture
def headless(make_run: MakeRun) -> Path:
    """Six of sixteen items finished, the first of the order not among them."""
    return make_run(right=3, limit=16, finish=[9, 3, 14, 2, 1, 7], output="headless")


def test_score_counts_both_and_reports_the_whole_beginning(invoke: Run, stopped: Path) -> None:
    done = invoke("score", stopped)
    assert done.exit_code == 0
    assert f"{SAID}; the results cover the first 3 items of its order" in done.stdout
    assert "no interval" in done.stdout
    assert "[" not in done.stdout.split("published:")[0], "no interval of any row"
    data = json.loads(invoke("score", stopped, "--json").stdout)
    assert (data["planned"], data["done"], data["failed"], data["finished"]) == (16, 6, 0, False)
    assert {(row["n"], row["planned"], row["n_protocol"], row["interval"]) for row in data["results"]} == {(3, 16, 200, "none")}
    assert [row["value"] for row in data["results"]] == [100.0, 100.0]
    for name in ("manifest.json", "result.json"):
        assert json.loads((stopped / name).read_text())["tally"] == {"planned": 16, "done": 6, "failed": 0, "cause": ""}


def test_score_of_a_run_without_a_beginning_has_no_row(invoke: Run, headless: Path) -> None:
    done = invoke("score", headless)
    assert (done.exit_code, SAID in done.stdout) == (0, True)
    assert json.loads(invoke("score", headless, "--json").stdout)["results"] == []


@pytest.mark.parametrize("scored", [False, True])
def test_no_verdict_and_no_comparison(invoke: Run, stopped: Path, make_run: MakeRun, tmp_path: Path, scored: bool) -> None:
    other = make_run(right=10, limit=16, output="other")
    if scored:
        invoke("score", stopped)
    for words in (
        ("verify", stopped),
        ("compare", stopped, other),
        ("compare", other, stopped),
        ("audit", stopped),
        ("bundle", stopped, "-o", tmp_path / "b.zip"),
    ):
        done = invoke(*words)
        assert (done.exit_code, done.stdout) == (2, ""), words
        assert SAID in done.stderr
    assert not (tmp_path / "b.zip").exists()
    table = invoke("table", "--results", stopped.parents[2], "--format", "json")
    assert SAID in table.stderr
    assert all(cell["measured"] is None for line in json.loads(table.stdout)["lines"] for cell in line["columns"])
    card = invoke("card", MODEL, "--results", stopped.parents[2])
    assert (card.exit_code, SAID in card.stderr) == (2, True)
    report = tmp_path / "report.html"
    assert invoke("report", "--results", stopped.parents[2], "--output", report).exit_code == 0
    assert SAID in report.read_text()


def test_the_report_has_a_run_without_a_beginning(invoke: Run, headless: Path, tmp_path: Path) -> None:
    """It has no row at all, as most runs that were killed: rows of one batch are of one length, wherever they stand."""
    report = tmp_path / "report.html"
    assert invoke("report", "--results", headless.parents[2], "--output", report).exit_code == 0
    assert SAID in report.read_text()


def test_partial_compares_the_whole_beginning_and_nothing_else(invoke: Run, stopped: Path, headless: Path) -> None:
    data = json.loads(invoke("verify", stopped, "--partial", "--json").stdout)
    assert {(one["row"]["n"], one["row"]["value"], one["items"]) for one in data["comparisons"]} == {(3, 100.0, "other")}
    assert SAID in data["notes"]
    refused = invoke("verify", headless, "--partial")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "has rows of no item" in refused.stderr


def test_a_bundle_that_was_cut_is_not_whole(invoke: Run, make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(right=3, limit=16)
    assert invoke("bundle", run, "-o", tmp_path / "b.zip").exit_code == 0
    with zipfile.ZipFile(tmp_path / "b.zip") as file:
        assert "samples.jsonl" in file.namelist()
    whole = json.loads(invoke("verify-bundle", tmp_path / "b.zip", "--json").stdout)
    assert (whole["good"], whole["model"], whole["benchmark"], whole["samples"]) == (True, MODEL, "gsm8k", 16)


def test_a_limited_run_is_a_finished_run_of_a_named_subset(invoke: Run, make_run: MakeRun) -> None:
    run = make_run(right=3, limit=16)
    done = invoke("score", run)
    assert "unfinished" not in done.stdout
    assert "18.8  [6.6, 43.0]       16   200" in done.stdout
    assert invoke("verify", run, "--partial").exit_code == 0
