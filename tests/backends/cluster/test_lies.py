"""A node that is wrong, on a real cluster: nothing that it makes up gets to the ledger, and the run ends right or in a line."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from plugins import engines
from plugins.cluster_runs import QUIET, pens, plan_of, same_run, samples

from tulu_eval.backends.base import ReloadError
from tulu_eval.backends.cluster import fleet, ray_errors, remote_engine, submission
from tulu_eval.backends.cluster.backend import on_cluster
from tulu_eval.errors import EngineError, PreflightError
from tulu_eval.runs.order import Order
from tulu_eval.runs.runner import execute


@pytest.fixture
def lies(cluster: Any) -> Iterator[Path]:
    """The file that says which node lies."""
    path = Path(os.environ[engines.LIES])
    yield path
    path.write_text("")


@pytest.fixture
def actor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_engine, "EngineActor", engines.LyingActor)


def one_line(said: str) -> str:
    assert said.isprintable()
    assert len(said) < 700
    return said


def test_wrong_answers_are_asked_again_on_another_node(
    order: Order, cluster: Any, lies: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Eight kinds of wrong answers; the run is that of one engine, and the node is not used any more."""
    data = pens(tmp_path / "pens.jsonl", 40)
    lies.write_text(f"{cluster.second} any")
    with caplog.at_level(logging.WARNING):
        outcome = execute(plan_of(order, cluster.address, engines.Lying, data=data), QUIET)
    same_run(execute(plan_of(order, None, engines.Engine, data=data), QUIET).folder, outcome.folder)
    (warned,) = (one.getMessage() for one in caplog.records if "goes on without it" in one.getMessage())
    assert "requests that another node answered; the run goes on without it" in one_line(warned)


def test_where_all_nodes_are_wrong_the_requests_have_failed(order: Order, cluster: Any, lies: Path) -> None:
    lies.write_text("all any")
    found = samples(execute(plan_of(order, cluster.address, engines.Lying), QUIET).folder)
    assert {line["status"] for line in found.values()} == {"engine_error"}
    assert all(one_line(line["error"]) for line in found.values())
    assert len({line["error"] for line in found.values()}) > 4


@pytest.mark.parametrize(
    ("told", "cause"),
    [
        ("garbage", "sent what is no AnswerBatch: "),
        ("huge", "sent an error: ValueError: ?[31mx x x"),
        ("unreadable", "sent an error: "),
        ("twice", "answered a request twice, or one that it was not asked"),
    ],
)
def test_a_node_that_sends_garbage_is_not_used_any_more(
    order: Order, cluster: Any, lies: Path, actor: None, caplog: pytest.LogCaptureFixture, told: str, cause: str
) -> None:
    lies.write_text(f"{cluster.second} {told}")
    with caplog.at_level(logging.WARNING):
        outcome = execute(plan_of(order, cluster.address, engines.Engine), QUIET)
    same_run(execute(plan_of(order, None, engines.Engine), QUIET).folder, outcome.folder)
    warned = [one.getMessage() for one in caplog.records if one.name.startswith("tulu_eval.backends.cluster")]
    assert len(warned) == 1
    assert cause in one_line(warned[0])


def test_an_engine_that_never_answers_holds_up_nobody(
    order: Order, cluster: Any, lies: Path, actor: None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission, "TWIN_SECONDS", 0.5)
    lies.write_text(f"{cluster.second} hangs")
    with caplog.at_level(logging.WARNING):
        outcome = execute(plan_of(order, cluster.address, engines.Engine), QUIET)
    same_run(execute(plan_of(order, None, engines.Engine), QUIET).folder, outcome.folder)
    assert "is slow or hangs; 6 requests that it has go to another engine, too" in caplog.text


def test_a_request_that_failed_does_not_wait_for_a_node_that_hangs(
    order: Order, cluster: Any, lies: Path, actor: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission, "TWIN_SECONDS", 0.5)
    monkeypatch.setattr(submission, "HOPE_SECONDS", 3.0)
    lies.write_text(f"{cluster.second} hangs")
    found = samples(execute(plan_of(order, cluster.address, engines.Weak), QUIET).folder)
    assert [line["error"] for line in found.values() if line["status"] == "engine_error"] == ["out of luck"]
    assert len(found) == 12


def test_an_engine_that_hangs_while_it_gets_other_weights_is_started_anew(
    order: Order, cluster: Any, lies: Path, actor: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "RELOAD_SECONDS", 1.0)
    plan = plan_of(order, cluster.address, engines.Engine)
    settings, backend = plan.order.settings, on_cluster(engines.Engine)
    backend.check(plan.model, settings)
    with backend.load(plan.model, settings, (1,), 64) as engine:
        lies.write_text(f"{cluster.second} reload")
        with pytest.raises(ReloadError, match=r"^the engines on .* have said nothing for 1 s$"):
            engine.reload(plan.model, settings, (1,), 64, (1, 2))


def test_an_engine_that_ends_too_early_or_is_interrupted_is_replaced(
    order: Order, cluster: Any, lies: Path, actor: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission, "MOST_DEATHS", 2)
    for told in ("fewer", "interrupt"):
        lies.write_text(f"all {told}")
        with pytest.raises(EngineError) as caught:
            execute(plan_of(order, cluster.address, engines.Engine), QUIET)
        assert "the node" in one_line(str(caught.value))


def test_a_run_that_cannot_go_on_ends_in_one_line_that_names_the_node(
    order: Order, cluster: Any, lies: Path, actor: None
) -> None:
    for told, said in (
        ("all garbage", "sent what is no AnswerBatch: .*; no other node has room for an engine"),
        (f"{cluster.second} load", "the node .* sent what is no Loaded: "),
        (f"{cluster.second} look", r"the node .* \?\[2J no"),
    ):
        lies.write_text(told)
        with pytest.raises((EngineError, PreflightError), match=said) as caught:
            execute(plan_of(order, cluster.address, engines.Engine), QUIET)
        one_line(str(caught.value))


def test_an_error_of_any_class_is_one_line() -> None:
    loud, long = engines.Loud(), ValueError("\x1b[31m" + "x\n" * 1_000_000)
    assert ray_errors.cause_of(loud) == "Loud"
    assert one_line(ray_errors.cause_of(long))[:8] == "x x x x "
