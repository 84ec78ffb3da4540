"""A run with failures: exit code 1, the commonest cause on stderr, and no value without the number of failures beside it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

Run = Callable[..., Result]
MakeRun = Callable[..., Path]
MODEL = "allenai/tulu-v2.5-ppo-13b-uf-mean-70b-uf-rm"


@pytest.mark.parametrize("quiet", [(), ("-q",)], ids=["loud", "quiet"])
@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
def test_run_ends_with_1_and_says_why(
    invoke: Run, own_places: None, llama3_like: Path, rows: Path, monkeypatch: pytest.MonkeyPatch, quiet: Any, form: Any
) -> None:
    import dataclasses

    from tulu_eval.backends.hf.backend import TransformersBackend

    generate = TransformersBackend.generate

    def failing(self: Any, requests: Any, decoding: Any) -> Any:
        for place, completion in enumerate(generate(self, requests, decoding)):
            why = "no\nroom" if place < 3 else "odd" if place == 3 else ""
            yield dataclasses.replace(completion, finish_reason="error", error=why) if why else completion

    monkeypatch.setattr(TransformersBackend, "generate", failing)
    words = ("run", "gsm8k", "-m", llama3_like, "--protocol", "custom", "--data", rows, "--device", "cpu", "--dtype", "float32")
    done = invoke(*words, *quiet, *form)
    assert done.exit_code == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.endswith("4 of 12 failed (3 times: no room); the same command tries them again")
    assert last.startswith("tulu-eval: results/")
    if form:
        (data,) = json.loads(done.stdout)
        assert (data["planned"], data["done"], data["failed"]) == (12, 8, 4)
        assert {row["failed"] for row in data["results"]} == {4}
    else:
        assert "(4 failed)" in done.stdout
        assert "4 of 12 failed (3 times: no room); the interval spans all of them wrong and all of them right" in done.stdout


@pytest.fixture
def failed(make_run: MakeRun) -> Path:
    """All 200 answers failed: nothing is known of the model."""
    return make_run(right=200, failed=200)


def test_no_table_report_or_card_shows_the_value_alone(invoke: Run, failed: Path, tmp_path: Path) -> None:
    results = failed.parents[2]
    for form in ("plain", "markdown", "latex"):
        text = invoke("table", "--results", results, "--format", form).stdout
        assert "0.0 (200 failed) [0.0, 100.0], n = 200" in text
    csv_rows = list(csv.DictReader(invoke("table", "--results", results, "--format", "csv").stdout.splitlines()))
    assert [row["failed"] for row in csv_rows if row["value"]] == ["200"]
    data = json.loads(invoke("table", "--results", results, "--format", "json").stdout)
    measured = [cell["measured"] for line in data["lines"] for cell in line["columns"] if cell["measured"]]
    assert [(row["counts"]["engine_error"], row["low"], row["high"]) for row in measured] == [(200, 0.0, 100.0)]
    card = invoke("card", MODEL, "--results", results)
    assert card.exit_code == 2
    assert "the engine or judge failed on 200 of 200 items" in card.stderr


def test_verify_cannot_tell_where_failures_decide(invoke: Run, failed: Path) -> None:
    done = invoke("verify", failed)
    assert done.exit_code == 0
    assert "measured 0.0 % (200 failed) [0.0, 100.0], n = 200" in done.stdout
    assert "200 of 200 failed, so nobody knows whether the model has them right" in done.stdout
    data = json.loads(invoke("verify", failed, "--json").stdout)
    assert {one["agreement"]["verdict"] for one in data["comparisons"]} == {"cannot tell"}
    assert not data["inconsistent"]
