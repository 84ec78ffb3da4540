"""All numbers of each measured model: published and measured on one line, others after them, in every format."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tulu_eval.findings.measured_models import SuiteTable, collect
from tulu_eval.registry import load_suite
from tulu_eval.reports import suite_table as report
from tulu_eval.reports.table import FORMATS

MakeRun = Callable[..., Path]
PPO_13B = "allenai/tulu-v2.5-ppo-13b-uf-mean-70b-uf-rm"


@pytest.fixture
def table(make_run: MakeRun, tmp_path: Path) -> SuiteTable:
    make_run(right=lambda place: place % 200 < 121, protocol="full")
    make_run(right=10, model="someone/<b>else", output="results/b")
    return collect(load_suite(), tmp_path / "results")


def test_a_line_per_number_published_or_measured(table: SuiteTable) -> None:
    own, other = table.models
    assert (own.label, own.size, own.stage) == ("tulu-v2.5-ppo-13b-uf-mean-70b-uf-rm", "13B", "PPO")
    lines = {line.title: line.cell for line in own.lines}
    gsm8k = lines["GSM8K, 8-shot CoT"]
    assert gsm8k.cell is not None
    assert gsm8k.measured is not None
    assert gsm8k.comparison is not None
    assert (gsm8k.measured.row.value, gsm8k.measured.row.n, gsm8k.comparison.row.n) == (60.5, 200, 200)
    length_controlled = lines["AlpacaEval 2, length-controlled win rate"]
    assert length_controlled.cell is not None
    assert length_controlled.measured is None
    full = lines["gsm8k full"]
    assert full.measured is not None
    assert (full.cell, full.measured.row.n) == (None, 1319)
    assert own.elsewhere > 0
    assert [(line.title, line.cell.cell) for line in other.lines] == [("GSM8K, 8-shot CoT", None)]


def test_a_stopped_run_is_a_problem_and_no_number(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(right=121, finish=[7, 2])
    table = collect(load_suite(), tmp_path / "results")
    assert table.models == ()
    assert "unfinished" in table.problems[0]
    assert report.write(table, "plain") == "nothing was measured\n"


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_has_the_same_numbers_and_escapes_names(table: SuiteTable, form: str) -> None:
    text = report.write(table, form)
    assert text.endswith("\n")
    assert "60.5" in text
    assert form in ("plain", "csv", "json") or "<b>" not in re.sub("`[^`]*`", "", text)
    if form == "json":
        first = json.loads(text)["models"][0]
        assert [line["n"] for line in first["lines"] if line["value"]] == [200, 1319]
    if form == "csv":
        rows = list(csv.DictReader(io.StringIO(text)))
        assert {(row["title"], row["value"], row["n"]) for row in rows if row["value"]} == {
            ("GSM8K, 8-shot CoT", "60.5", "200"),
            ("gsm8k full", rows[-2]["value"], "1319"),
            ("GSM8K, 8-shot CoT", "5.0", "200"),
        }
        assert all(row["verdict"] for row in rows if row["published"])
