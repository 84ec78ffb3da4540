"""What a person sees while a run goes."""

from __future__ import annotations

import dataclasses

import pytest

from tulu_eval.records import Completion, Grade
from tulu_eval.runs import progress as module
from tulu_eval.runs.progress import Progress
from tulu_eval.store.sample_line import Sample


def sample(score: float) -> Sample:
    return Sample("a", "4", "p", Completion("0" * 64, "4", (1, 2, 3), "stop", 0.1), "ok", (Grade("s", "4", True, score),))


def go(progress: Progress) -> None:
    progress.begin(4, 1)
    progress.loading("m", "b")
    progress.generating()
    for score in (1.0, 0.0, 1.0):
        progress.sample(sample(score))
    progress.say("a remark")
    progress.end()


def test_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOG_SECONDS", -1.0)
    go(Progress(terminal=False))
    lines = capsys.readouterr().err.splitlines()
    assert lines[:3] == ["1 of 4 samples are in the ledger already", "loading m on b ...", "generating 3 samples"]
    assert lines[3].startswith("2/4 items, ")
    assert "right 1 of 1 so far" in lines[3]
    assert "right 2 of 3 so far" in lines[-1]
    assert lines[-1].startswith("4/4 items, ")


def test_a_second_run_is_counted_from_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(terminal=False)
    go(progress)
    capsys.readouterr()
    progress.begin(2, 0)
    progress.generating()
    progress.sample(sample(1.0))
    progress.end()
    first, line = capsys.readouterr().err.splitlines()
    assert first == "generating 2 samples"
    assert line.startswith("1/2 items, ")
    assert "right 1 of 1 so far" in line


def test_failures_are_counted_apart_from_answers(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(terminal=False)
    progress.begin(3, 0)
    progress.generating()
    progress.sample(sample(1.0))
    for _ in range(2):
        progress.sample(dataclasses.replace(sample(0.0), status="engine_error"))
    progress.end()
    assert "right 1 of 1 so far, 2 failed\n" in capsys.readouterr().err


def test_a_bar_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    go(Progress(terminal=True))
    shown = capsys.readouterr().err
    assert "tok/s" in shown
    assert "a remark" in shown


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    go(Progress(quiet=True, terminal=True))
    assert capsys.readouterr().err == ""


def test_the_time_left_counts_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short answers finish first: their mean gives the least time, the limit of tokens the most."""
    clock = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])
    progress = Progress(terminal=False, quiet=True)
    progress.begin(4, 1, most=30)
    progress.generating()
    clock[0] = 2.0
    progress.sample(sample(1.0))
    assert progress._left() == "4 to 40 s left"
    progress.begin(4, 1)
    progress.sample(sample(1.0))
    assert progress._left() == "4 s left"
    for _ in range(2):
        progress.sample(sample(1.0))
    assert progress._left() == ""
