"""Evaluating from Python: a tiny random model on twelve made-up rows, plans, shards, settings, and what is printed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tulu_eval

Evaluate = Callable[..., list[tulu_eval.Run]]
SETTINGS = {"dtype": "float32", "device": "cpu", "batch_size": 4}


@pytest.fixture
def evaluate(rows: Path) -> Evaluate:
    """Evaluates on the made-up rows, silently."""

    def call(models: Any, **more: Any) -> list[tulu_eval.Run]:
        given = {"protocol": "custom", "data": rows, "settings": SETTINGS, "progress": False, **more}
        return tulu_eval.evaluate("gsm8k", models, **given)

    return call


def test_a_run_and_its_plan(evaluate: Evaluate, llama3_like: Path, rows: Path, capfd: pytest.CaptureFixture[str]) -> None:
    plan = tulu_eval.plan("gsm8k", llama3_like, protocol="custom", data=rows, settings=SETTINGS)
    assert not plan.folder.exists()
    assert re.fullmatch(
        r"<Plan .+ on gsm8k: custom, 12 items, prompts of at most \d+ tokens, transformers, results/.+>", repr(plan)
    )
    (run,) = evaluate(llama3_like)
    assert (run.folder, len(plan.planned)) == (plan.folder, 12)
    assert (run.tally.done, run.results[0].n, run.benchmark) == (12, 12, "gsm8k")
    assert "tok/s" in run.speed
    assert run.notices == plan.notices
    read = tulu_eval.load_run(run.folder)
    assert (read.results, read.tally, read.manifest) == (run.results, run.tally, run.manifest)
    (again,) = evaluate(llama3_like)
    assert (again.results, again.speed) == (run.results, "")
    assert capfd.readouterr() == ("", "")


def test_models_have_the_names_that_they_are_given(evaluate: Evaluate, llama3_like: Path, llama2_like: Path) -> None:
    runs = evaluate({"first": llama3_like, "second": str(llama2_like)}, limit=3)
    assert [(run.model, run.tally.planned) for run in runs] == [("first", 3), ("second", 3)]
    assert [run.folder.parts[:3] for run in runs] == [("results", "first", "gsm8k"), ("results", "second", "gsm8k")]
    compared = tulu_eval.compare(*runs)
    assert compared.paired.n == 3


def test_shards_make_one_run(evaluate: Evaluate, llama3_like: Path) -> None:
    parts = [evaluate(llama3_like, shard=shard)[0] for shard in ((1, 2), "2/2")]
    merged = tulu_eval.merge(parts)
    assert (merged.shards, merged.results[0].n) == (2, 12)
    assert tulu_eval.load_run(merged.folder).results == evaluate(llama3_like)[0].results
    with pytest.raises(tulu_eval.UserError, match="no shards to merge"):
        tulu_eval.merge([])


def test_progress_is_a_bar(evaluate: Evaluate, llama3_like: Path, capfd: pytest.CaptureFixture[str]) -> None:
    evaluate(llama3_like, limit=2, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "2/2" in err
    assert "loading" in err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"settings": {"devise": "cpu"}}, "unknown setting 'devise'. Did you mean 'device'?"),
        ({"settings": {"batch_size": "4"}}, "settings: batch_size"),
        ({"settings": {"dtype": "bf16"}}, "unknown dtype 'bf16'. Did you mean 'bfloat16'"),
        ({"settings": tulu_eval.EngineSettings(dtype="int8")}, "unknown dtype 'int8'"),
        ({"settings": {"served": {"uri": "http://127.0.0.1:1"}}}, "unknown setting of served 'uri'. Did you mean 'url'?"),
        ({"settings": {"served": 7}}, "settings: served"),
        ({"settings": {"served": "http://127.0.0.1:1/v1"}, "backend": "vllm"}, "served is no setting of backend vllm"),
        ({"shard": (3, 2)}, "shard must be I/N with I from 1 to N, such as 3/7, not '3/2'"),
        ({"shard": (1, 40)}, "shard 1/40: there are 12 items, so at most as many shards"),
        ({"protocol": "costum"}, "unknown protocol"),
        ({"data": {"gsm9k": "x"}}, "unknown benchmark in data 'gsm9k'. Did you mean 'gsm8k'?"),
        ({"date": "2026-01-01"}, "date 2026-01-01: the chat template of"),
        ({"registry": "nowhere.toml"}, "nowhere.toml"),
    ],
)
def test_what_cannot_be_done_is_said_in_parameters(
    more: dict[str, Any], message: str, evaluate: Evaluate, llama3_like: Path
) -> None:
    with pytest.raises(tulu_eval.UserError) as caught:
        evaluate(llama3_like, **more)
    assert message in str(caught.value)
    assert "--" not in str(caught.value)
    assert not Path("results").exists()


def test_several_benchmarks_and_none(llama3_like: Path, rows: Path) -> None:
    both = ["gsm8k", "alpaca-eval"]
    with pytest.raises(tulu_eval.UserError, match="protocol goes with one benchmark"):
        tulu_eval.evaluate(both, llama3_like, protocol="custom", progress=False)
    with pytest.raises(tulu_eval.UserError, match="give a mapping from benchmark to file"):
        tulu_eval.evaluate(both, llama3_like, data=rows, progress=False)
    with pytest.raises(tulu_eval.UserError, match="there is nothing to run"):
        tulu_eval.evaluate([], llama3_like, progress=False)
