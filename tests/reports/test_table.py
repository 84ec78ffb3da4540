"""The card's table in each format, from run folders that the real runner wrote."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tulu_eval.findings.table import CollectedTable, collect
from tulu_eval.registry import load_suite
from tulu_eval.reports import table as report

MakeRun = Callable[..., Path]
CARD = [["48.5", "28.8"], ["67.0", "26.7"], ["50.5", "16.0"], ["46.0", "10.4"], ["71.5", "21.2"]]


@pytest.fixture
def empty(tmp_path: Path) -> CollectedTable:
    return collect(load_suite(), tmp_path)


@pytest.fixture
def measured(make_run: MakeRun, tmp_path: Path) -> CollectedTable:
    make_run(right=121)
    make_run(right=110, protocol="full", model="allenai/tulu-2-dpo-70b")
    make_run(right=5, model="smollm2-135m-instruct", revision="sha256:1", form="chat", backend="transformers")
    return collect(load_suite(), tmp_path / "results")


@pytest.mark.parametrize("form", report.FORMATS)
def test_every_format_has_the_five_rows_and_invents_nothing(empty: CollectedTable, form: str) -> None:
    text = report.write(empty, load_suite(), form)
    assert text.endswith("\n")
    for line, cells in zip(empty.lines, CARD, strict=True):
        assert line.label in text
        assert all(cell in text for cell in cells)
    if form == "json":
        columns = [column for line in json.loads(text)["lines"] for column in line["columns"]]
        assert all(column["measured"] is None and column["agreement"] is None for column in columns)
    else:
        assert text.count(report.NOT_MEASURED) == 10


def test_markdown_reads_back_cell_by_cell(measured: CollectedTable) -> None:
    text = report.write(measured, load_suite(), "markdown")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    header, _, *body = rows
    assert header == [
        "Model", "Size", "Alignment", "GSM8K published (n = 200)", "group", "GSM8K measured", "GSM8K on all items",
        "group of measured", "GSM8K verdict", "AlpacaEval 2 LC published (n = 805)", "AlpacaEval 2 LC measured",
        "AlpacaEval 2 LC verdict",
    ]  # fmt: skip
    assert [row[0] for row in body[:5]] == [line.label for line in measured.lines[:5]]
    of = {row[0]: dict(zip(header, row, strict=True)) for row in body}
    ppo = of["Tulu V2.5 PPO 13B"]
    assert ppo["GSM8K published (n = 200)"] == "67.0 [60.2, 73.1] (2)"
    assert ppo["GSM8K measured"] == "60.5 [53.6, 67.0], n = 200"
    assert ppo["GSM8K verdict"].startswith("inconsistent, p = 0.00013, detects 5.0")
    assert of["Tulu V2 DPO 70B"]["GSM8K on all items"].endswith("n = 1319")
    small = of["smollm2-135m-instruct"]
    assert (small["GSM8K published (n = 200)"], small["GSM8K verdict"]) == ("-", "-")
    assert small["GSM8K measured"].startswith("2.5 [")
    assert of["Tulu V2 SFT 13B"]["GSM8K measured"] == "not measured"


def test_every_measured_number_has_its_signature_and_every_mark_its_contradiction(measured: CollectedTable) -> None:
    text = report.write(measured, load_suite(), "markdown")
    rows = [row for line in measured.lines for e in line.entries if e.measured for row in (e.measured.row, e.measured.full)]
    assert sum(row is not None for row in rows) == 4
    assert all(f"`{row.signature}`" in text for row in rows if row is not None)
    assert "(2) contradicted: The card's results table prints GSM8K 67.0 for Tulu V2.5 PPO 13B." in text
    assert "not separated by the data" in text


def test_csv_has_every_figure_in_a_column_of_its_own(measured: CollectedTable) -> None:
    rows = list(csv.DictReader(io.StringIO(report.write(measured, load_suite(), "csv"))))
    assert len(rows) == 2 * len(measured.lines)
    ppo = next(row for row in rows if row["label"] == "Tulu V2.5 PPO 13B" and row["metric"] == "GSM8K_8shot_CoT")
    assert (ppo["published"], ppo["published_n"], ppo["contradictions"]) == ("67.0", "200", "ppo-13b-gsm8k")
    assert (float(ppo["value"]), int(float(ppo["n"])), ppo["protocol"], ppo["scorer"]) == (
        60.5,
        200,
        "card-200",
        "last-number",
    )
    assert float(ppo["low"]) < 60.5 < float(ppo["high"])
    assert ppo["verdict"] == "inconsistent"
    assert ppo["signature"].startswith("gsm8k:card-200|n:200@")


def test_json_has_published_measured_and_agreement(measured: CollectedTable) -> None:
    found = json.loads(report.write(measured, load_suite(), "json"))
    ppo = found["lines"][1]["columns"][0]
    assert ppo["published"]["source"]["key"] == "card"
    assert ppo["measured"]["n"] == 200
    assert ppo["agreement"]["verdict"] == "inconsistent"
    assert found["problems"] == []


def test_latex_is_balanced_and_escaped(measured: CollectedTable) -> None:
    text = report.write(measured, load_suite(), "latex")
    assert text.count(r"\begin{") == text.count(r"\end{") == 2
    body = text.split(r"\begin{itemize}")
    assert r"\_" in body[1] or "_" not in body[1]
    assert "%" not in body[1].replace(r"\%", "")
    assert r"\toprule" in body[0]
    assert r"\item {}[low, high]" in body[1], "a bracket right after \\item would be its label"


def test_plain_fits_a_terminal(measured: CollectedTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "130")
    text = report.write(measured, load_suite(), "plain")
    assert max(len(line) for line in text.splitlines() if "|n:" not in line) <= 130
    assert len(text.split("\n\n")) == 4, "a table a benchmark, notes, signatures"


def test_partial_runs_and_several_runs_are_said(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(right=30, limit=50)
    make_run(right=20, limit=40)
    text = report.write(collect(load_suite(), tmp_path / "results"), load_suite(), "plain")
    assert "n = 50 of 200" in text
    assert "partial (50 of 200)" in text
    assert "Tulu V2.5 PPO 13B, GSM8K: one of 2 runs, the one with most items, then the newest." in text
