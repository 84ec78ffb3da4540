"""What every verb shares: a cached run imports no engine, verdicts have a colour on a terminal alone, the next step is told."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import pytest

from tulu_eval.cli import common
from tulu_eval.records import Completion
from tulu_eval.registry import load_suite
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.run_plan import make_plan
from tulu_eval.runs.runner import execute
from tulu_eval.testing import ScriptedBackend

HEAVY = {"torch", "transformers", "scipy.stats", "pandas", "sklearn", "datasets"}


def test_a_run_with_all_samples_there_imports_nothing_heavy(order: Any) -> None:
    plan = make_plan(order, load_suite())
    scripted = ScriptedBackend.of(lambda request, _: Completion(request.key, "4.", (1,), "stop", 0.1), name="transformers")
    execute(dataclasses.replace(plan, backend=scripted), Progress(quiet=True))
    words = [
        *("run", "gsm8k", "-m", order.model, "--protocol", "custom", "--data", str(order.data), "--dtype", "float32"),
        *("--device", "cpu", "--batch-size", "4", "-o", str(order.output)),
    ]
    code = (
        f"import sys\nfrom tulu_eval.cli import cli\ntry: cli.main({words!r})\nexcept SystemExit as end: print(end.code)\n"
        f"print(sorted({HEAVY!r} & {{*sys.modules}}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.endswith("0\n[]\n"), done.stderr
    assert "12 of 12 samples are in the ledger already" in done.stderr
    assert f"next: tulu-eval verify {plan.folder}\n" in done.stderr


def test_a_verdict_has_a_colour_on_a_terminal_and_none_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "inconsistent, consistent or cannot tell"
    assert common.coloured(text) == text
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert common.coloured(text) == ("\x1b[31minconsistent\x1b[0m, \x1b[32mconsistent\x1b[0m or \x1b[33mcannot tell\x1b[0m")
    monkeypatch.setenv("NO_COLOR", "1")
    assert common.coloured(text) == text


def test_the_next_command_can_be_copied(capsys: pytest.CaptureFixture[str]) -> None:
    common.then("verify", "a folder/x")
    common.then("verify", "x", quiet=True)
    assert capsys.readouterr() == ("", "next: tulu-eval verify 'a folder/x'\n")
