"""Judging from Python: nothing is asked that nobody agreed to pay, nothing is paid twice, nothing is printed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tulu_eval

MakeRun = Callable[..., Path]


@pytest.fixture
def files(shared: Path) -> dict[str, Path]:
    folder = shared / "data" / "alpaca_eval"
    return {"data": folder / "alpaca_eval_gpt4_baseline.json", "gamed": folder / "df_gamed_rederived.csv"}


def test_a_run_is_judged_when_somebody_agreed(
    alpaca_run: MakeRun, loopback: Any, files: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    run = tulu_eval.load_run(alpaca_run(4))
    capfd.readouterr()
    told: list[tuple[int, int]] = []
    with loopback() as server:
        where: dict[str, Any] = {"url": server.url, **files}
        plan = tulu_eval.plan_judging(run, "some-judge", **where)
        assert (plan.estimate.requests, len(plan.prompts)) == (4, 3)
        with pytest.raises(tulu_eval.UserError, match="It may cost money: give max_cost, in dollars, or confirm=True"):
            tulu_eval.judge(run, "some-judge", progress=False, **where)
        with pytest.raises(tulu_eval.UserError, match=r"^max_cost needs a price"):
            tulu_eval.judge(run, "some-judge", max_cost=1.0, progress=False, **where)
        with pytest.raises(KeyError, match="no"):
            tulu_eval.judge(run, "some-judge", confirm=lambda estimate: {}["no"], progress=False, **where)
        assert sum(server.requests.values()) == 0
        done = tulu_eval.judge(
            run, "some-judge", price=(2.5, 10.0), max_cost=1.0, progress=lambda *counts: told.append(counts), **where
        )
        assert sum(server.requests.values()) == 4
    assert sorted(told)[-1] == (4, 4)
    assert done.folder == run.folder / "judged" / "some-judge-logprobs"
    again = tulu_eval.judge(run, "some-judge", progress=False, **where)  # the server is gone, and nothing is missing
    assert again.outcome.results == done.outcome.results
    rates = tulu_eval.rescore_judgments(done.folder, gamed=files["gamed"])
    assert rates.results == done.outcome.results
    assert tulu_eval.load_run(run.folder).results[-1] == done.outcome.results[-1]
    assert capfd.readouterr() == ("", "")


def test_progress_is_a_bar(
    alpaca_run: MakeRun, loopback: Any, files: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    run = alpaca_run(3)
    with loopback() as server:
        tulu_eval.judge(run, "some-judge", url=server.url, confirm=True, **files)
    out, err = capfd.readouterr()
    assert out == ""
    assert "3/3" in err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "who judges? judge NAME, with url unless it is OpenAI's, or vllm MODEL"),
        ({"judge": "a", "url": "http://127.0.0.1:1/v1", "vllm": "b"}, "url and vllm are two judges; give one of them"),
        ({"judge": "a", "c": 1e9}, "c 1000000000.0 must be from "),
        ({"judge": "a", "price": (-1.0, 2.0)}, "is not IN,OUT in dollars per million tokens"),
        ({"judge": "a", "limit": 0}, "limit must be 1 or more, not 0"),
    ],
)
def test_what_cannot_be_done_is_said_in_parameters(
    given: dict[str, Any], message: str, alpaca_run: MakeRun, files: dict[str, Path]
) -> None:
    with pytest.raises(tulu_eval.UserError) as caught:
        tulu_eval.judge(alpaca_run(2), **{"progress": False, **files, **given})
    assert message in str(caught.value)
    assert "--" not in str(caught.value)


def test_files_are_scored_and_compared(shared: Path, files: dict[str, Path]) -> None:
    model = shared / "data" / "alpaca_eval" / "models" / "claude-2"
    (annotations,) = model.glob("annotations*.json")
    outputs = model / "model_outputs.json"
    rates = tulu_eval.score_annotations(annotations, outputs=outputs, gamed=files["gamed"], output="results")
    assert [row.metric for row in rates.results] == ["lc_win_rate", "win_rate"]
    assert rates.folder is not None
    assert tulu_eval.rescore_judgments(rates.folder, gamed=files["gamed"]).results == rates.results
    assert tulu_eval.compare_outputs(outputs, outputs).exact == 805
