"""Suites: one table of several benchmarks, and nothing is measured quietly without those that cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner
from plugins import dice, endings, letters

import tulu_eval
from tulu_eval import plugins
from tulu_eval.benchmarks.suites import TULU_2_5, TULU_2_5_QUICK, BenchmarkSuite, Member
from tulu_eval.cli import cli
from tulu_eval.errors import EngineError, PreflightError, UserError
from tulu_eval.runs import catalog

ROWS = {
    "letters": [{"id": f"q{n}", "question": f"Q {n}?", "answer": "ABCD"[n % 4], "subject": "xy"[n % 2]} for n in range(4)],
    "endings": [{"id": f"s{n}", "question": f"Ann has {n} pens.", "endings": f" She buys {n} more.| No"} for n in range(3)],
    "dice": [{"id": f"d{n}", "question": f"How many in {n}?", "answer": "even"} for n in range(2)],
}
PLUGINS: dict[str, Any] = {"letters": letters.Letters, "endings": endings.Endings, "dice": dice.Dice}
SUITE = BenchmarkSuite("three kinds", (Member("letters"), Member("endings", limit=2), Member("dice", "four")))
OPTIONS: dict[str, Any] = {"settings": {"dtype": "float32", "device": "cpu"}}


@pytest.fixture(autouse=True)
def declared(monkeypatch: pytest.MonkeyPatch) -> None:
    class Declared:
        def __init__(self, name: str, value: Any) -> None:
            self.name, self.value = name, value

        def load(self) -> Any:
            return self.value

    before = plugins.declared
    mine: dict[str, Any] = {
        plugins.BENCHMARKS: tuple(Declared(*one) for one in PLUGINS.items()),
        plugins.SUITES: (Declared("three", SUITE),),
    }
    monkeypatch.setattr(plugins, "declared", lambda group: (*before(group), *mine.get(group, ())))


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Path]:
    found = {}
    for name, rows in ROWS.items():
        found[name] = tmp_path / f"{name}.jsonl"
        found[name].write_text("".join(json.dumps(row) + "\n" for row in rows))
    return found


def test_a_suite_is_measured_with_one_engine_and_goes_on(data: dict[str, Path], llama3_like: Path, tmp_path: Path) -> None:
    how = OPTIONS | {"output": tmp_path / "results", "progress": False}
    done = tulu_eval.evaluate_suite("three", llama3_like, data=data, **how)
    assert [(run.benchmark, run.results[0].n) for run in done.runs] == [("letters", 4), ("endings", 2), ("dice", 2)]
    assert (done.unmeasured, done.failed) == ((), ())
    again = tulu_eval.evaluate_suite("three", llama3_like, data=data, **how)
    assert [run.results for run in again.runs] == [run.results for run in done.runs]


def test_what_cannot_be_measured_stops_it_unless_skipped(data: dict[str, Path], llama3_like: Path, tmp_path: Path) -> None:
    data["endings"] = tmp_path / "absent.jsonl"
    how = OPTIONS | {"output": tmp_path / "results", "progress": False, "data": data}
    with pytest.raises(PreflightError, match=r"^1 of 3 benchmarks .* endings: .*absent\.jsonl") as told:
        tulu_eval.evaluate_suite("three", llama3_like, **how)
    assert not (tmp_path / "results").exists()
    assert "\n" not in str(told.value)
    done = tulu_eval.evaluate_suite("three", llama3_like, skip_unavailable=True, **how)
    assert [run.benchmark for run in done.runs] == ["letters", "dice"]
    ((name, why),) = [(one.benchmark, one.why) for one in done.unmeasured]
    assert name == "endings"
    assert "absent.jsonl" in why


def test_one_that_fails_does_not_stop_the_next(
    data: dict[str, Path], llama3_like: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tulu_eval.backends.hf.backend import TransformersBackend

    def fail(*_: Any) -> Any:
        raise EngineError("out of luck")

    monkeypatch.setattr(TransformersBackend, "score", fail)
    how = OPTIONS | {"output": tmp_path / "results", "progress": False}
    done = tulu_eval.evaluate_suite("three", llama3_like, data=data, **how)
    assert [run.benchmark for run in done.runs] == ["letters", "dice"]
    assert [(one.benchmark, one.why) for one in done.failed] == [("endings", "out of luck")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"suite": "four"}, "unknown suite 'four'"),
        ({"protocol": "full"}, "protocol goes with one benchmark"),
        ({"data": {"gsm8k": "x"}}, "data gsm8k: three has no such benchmark"),
        ({"model": "/no/such/model"}, "^(?!.*benchmarks of three).*no/such/model"),
    ],
)
def test_mistakes_are_one_line(llama3_like: Path, change: dict[str, Any], message: str) -> None:
    asked = {"suite": "three", "model": llama3_like} | change
    with pytest.raises(UserError, match=message) as told:
        tulu_eval.plan_suite(asked.pop("suite"), asked.pop("model"), **asked)
    assert "\n" not in str(told.value)


def test_the_command(data: dict[str, Path], llama3_like: Path, tmp_path: Path, shapes: ModuleType) -> None:
    words = ["run", "three", "-m", str(llama3_like), "--dtype", "float32", "--device", "cpu", "-o", str(tmp_path / "results")]
    given = [word for name, path in data.items() for word in ("--data", f"{name}={path}")]
    planned = CliRunner().invoke(cli, [*words, *given, "--dry-run"])
    assert planned.exit_code == 0, planned.output
    assert [line.split()[:3] for line in planned.stdout.splitlines()[2:5]] == [
        ["letters", "full", "4"], ["endings", "full", "2"], ["dice", "four", "8"]
    ]  # fmt: skip
    assert "the whole: about" in planned.stdout
    without = [*given[:4], "--data", f"dice={tmp_path / 'absent.jsonl'}"]
    stopped = CliRunner().invoke(cli, [*words, *without])
    assert (stopped.exit_code, stopped.stdout) == (2, "")
    assert "--skip-unavailable measures the others" in stopped.stderr
    done = CliRunner().invoke(cli, [*words, *without, "--skip-unavailable", "-q"])
    assert done.exit_code == 0, done.output
    assert "pass@3" not in done.stdout
    assert " ".join(done.stdout.split()).count("not measured: dice four:") == 1
    partial = CliRunner().invoke(cli, [*words, *without, "--skip-unavailable", "--json", "-q"])
    shown = CliRunner().invoke(cli, [*words, *given, "--json", "-q"])
    for one in (partial, shown):
        assert shapes.held(json.loads(one.stdout), shapes.SHAPES["run SUITE"][0])
    for more in (given, [*without, "--skip-unavailable"]):
        plan = CliRunner().invoke(cli, [*words, *more, "--dry-run", "--json"])
        assert shapes.held(json.loads(plan.stdout), shapes.SHAPES["run SUITE --dry-run"][0])
    (found,) = json.loads(shown.stdout)
    assert [run["results"][0]["benchmark"] for run in found["runs"]] == ["letters", "endings", "dice"]
    for wrong in (["run", "three", "gsm8k", "-m", "x"], ["run", "gsm8k", "-m", "x", "--skip-unavailable"]):
        assert CliRunner().invoke(cli, wrong).exit_code == 2


def test_the_suite_of_the_cards_names_what_is_installed() -> None:
    for suite in (TULU_2_5, TULU_2_5_QUICK):
        for member in suite.members:
            catalog.benchmark(member.benchmark).protocol(member.protocol)
    assert {member.limit for member in TULU_2_5.members} == {None}
    assert {member.limit for member in TULU_2_5_QUICK.members} == {200}
