"""A run as a caller has it: read, shown in one line and in a notebook, as a table."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from plugins import orders

import tulu_eval
from tulu_eval.registry import load_suite
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.run_plan import make_plan
from tulu_eval.runs.runner import execute
from tulu_eval.testing import ScriptedBackend

MakeRun = Callable[..., Path]


def forged(folder: Path) -> Path:
    """Returns a run whose result says more than its samples."""
    path = folder / "result.json"
    data = json.loads(path.read_text())
    data["results"][0]["value"] = 99.0
    path.write_text(json.dumps(data))
    return folder


def test_a_run_in_one_line(make_run: MakeRun) -> None:
    run = tulu_eval.load_run(make_run(121))
    assert isinstance(run, tulu_eval.Run)
    assert repr(run) == (
        "<Run allenai/tulu-v2.5-ppo-13b-uf-mean-70b-uf-rm on gsm8k: card-200 last-number 60.5 [53.6, 67.0], n = 200 of 200, "
        "card-200 stated-answer 60.5 [53.6, 67.0], n = 200 of 200>"
    )
    assert (run.model, run.benchmark, run.doubts) == ("allenai/tulu-v2.5-ppo-13b-uf-mean-70b-uf-rm", "gsm8k", ())
    assert [one.item for one in run.samples()][:2] == list(run.manifest.planned[:2])


def test_no_number_without_an_interval(make_run: MakeRun) -> None:
    folder = make_run(121, finish=[7, 0, 1])
    for shown in (repr(tulu_eval.load_run(folder)), tulu_eval.load_run(folder)._repr_html_()):
        assert "no interval" in shown
        assert "100.0" not in shown
        assert "unfinished: 3 of 200" in shown


def test_failures_stand_beside_the_value(make_run: MakeRun) -> None:
    shown = repr(tulu_eval.load_run(make_run(121, failed=2)))
    assert "(2 failed) [" in shown
    assert "n = 200 of 200" in shown


def test_a_forged_run_is_refused_or_shows_its_doubts_alone(make_run: MakeRun) -> None:
    folder = forged(make_run(121))
    with pytest.raises(tulu_eval.UserError, match="is not as it was made"):
        tulu_eval.load_run(folder)
    run = tulu_eval.load_run(folder, doubtful=True)
    assert run.doubts
    for shown in (repr(run), run._repr_html_()):
        assert "not as it was made" in shown
        assert "60.5" not in shown
        assert "99.0" not in shown.replace(run.doubts[0], "")
    with pytest.raises(tulu_eval.UserError, match="is not as it was made"):
        tulu_eval.verify(run)
    with pytest.raises(tulu_eval.UserError, match="is not as it was made"):
        tulu_eval.bundle(run)


def test_html_is_escaped(make_run: MakeRun) -> None:
    run = tulu_eval.load_run(make_run(3, limit=5, model="a<img src=x>&\"b'"))
    shown = run._repr_html_()
    assert "<img" not in shown
    assert "a&lt;img src=x&gt;&amp;&quot;b&#x27;" in shown
    assert "<td>60.0</td><td>[23.1, 88.2]</td><td>5</td><td>200</td>" in shown


def test_samples_as_a_table(make_run: MakeRun) -> None:
    frame = tulu_eval.load_run(make_run(3, limit=5)).to_dataframe()
    assert list(frame.columns) == [
        "item", "sample", "group", "target", "status", "text", "finish_reason", "new_tokens", "seconds",
        "last-number", "last-number answer", "stated-answer", "stated-answer answer",
    ]  # fmt: skip
    assert list(frame["last-number"]) == [1.0, 1.0, 1.0, 0.0, 0.0]
    assert list(frame["last-number answer"]) == ["1", "2", "3", "0", "0"]
    assert set(frame.status) == {"ok"}
    assert set(frame["sample"]) == {1}


@pytest.fixture
def plugin_run(llama3_like: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tulu_eval.Run]:
    """Makes a run of a plug-in: its first request fails, and a longer text is less likely, per token too."""
    orders.declare(monkeypatch)

    class Engine(ScriptedBackend):
        name = "transformers"

        def answer(self, request: Any, decoding: Any) -> str:
            return "ab"

        def logprob(self, prompt: str, text: str) -> float:
            return math.nan if " 0 " in prompt else -float(len(text))

    def call(name: str, **more: Any) -> tulu_eval.Run:
        plan = make_plan(orders.order(llama3_like, tmp_path, name, **more), load_suite())
        return tulu_eval.load_run(execute(dataclasses.replace(plan, backend=Engine), Progress(quiet=True)).folder)

    return call


def test_likelihoods_in_the_table(plugin_run: Callable[..., tulu_eval.Run]) -> None:
    run = plugin_run("endings")
    frame = run.to_dataframe().sort_values("item")
    assert list(frame.texts)[:2] == [[], [" She buys 1 more.", " She eats.", " <b>No</b>", " Then 1 1"]]
    long = frame[frame.status == "ok"].explode(["texts", "totals", "per_token", "per_byte"])
    assert len(long) == 5 * 4
    assert (long.totals / long.per_byte == long.texts.str.len()).all()
    assert (long.per_token == -long.texts.str.len()).all()
    best = long.sort_values("totals").groupby("item").last()
    assert (best.texts == best.text).all()


def test_a_subject_and_the_number_of_a_sample_in_the_table(plugin_run: Callable[..., tulu_eval.Run]) -> None:
    letters = plugin_run("letters").to_dataframe()
    assert dict(zip(letters.item, letters.group, strict=True)) == {f"q{n}": "xyz"[n % 3] for n in range(9)}
    frame = plugin_run("dice", protocol="four").to_dataframe()
    assert [(item, list(rows["sample"])) for item, rows in frame.groupby("item")] == [(f"d{n}", [1, 2, 3, 4]) for n in range(5)]
    assert list(frame.groupby("item")["pass@1"].sum()) == [4.0, 0.0, 4.0, 0.0, 4.0]
    assert "texts" not in frame


def test_the_runs_of_a_folder_and_those_that_cannot_be_used(make_run: MakeRun) -> None:
    good = make_run(121)
    bad = forged(make_run(97, model="allenai/tulu-2-13b", revision="2a2b2c2d"))
    runs = tulu_eval.find_runs("results")
    assert [run.folder.resolve() for run in runs] == [good.resolve()]
    (problem,) = runs.problems
    assert bad.name in problem
    assert "fresh=True" in problem
    assert tulu_eval.find_runs("nowhere") == []
