"""What every verb shares: a cached run imports no engine, verdicts have a colour on a terminal alone, the next step is told."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import termios
from typing import Any

import click
import pytest
from click.shell_completion import ShellComplete
from click_tree import commands

from tulu_eval.cli import cli, common
from tulu_eval.records import Completion
from tulu_eval.registry import load_suite
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.run_plan import make_plan
from tulu_eval.runs.runner import execute
from tulu_eval.testing import ScriptedBackend

OTHERWISE = {
    "--data": "run and report take several benchmarks' files, train several of one kind",
    "--device": "training has fewer",
    "--model": "run takes several",
    "--recipe": "reproduce has two",
}
"""Options that take other values in some verbs, and why."""

LEFT = ("--items", "--size", "--write", "--probe-items", "--out", "--output-path", "--file", "--num", "--folder")
"""Other words for ``--limit`` and ``--output``."""

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
    assert f"next: tulu-eval report --results {order.output}\n" in done.stderr


def test_a_verdict_has_a_colour_on_a_terminal_and_none_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "inconsistent, consistent or cannot tell"
    assert common.coloured(text) == text
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert common.coloured(text) == ("\x1b[31minconsistent\x1b[0m, \x1b[32mconsistent\x1b[0m or \x1b[33mcannot tell\x1b[0m")
    monkeypatch.setenv("NO_COLOR", "1")
    assert common.coloured(text) == text


@pytest.mark.parametrize(
    ("typed", "known", "others"),
    [
        ("run gsm8k -m x --protocol ", ["card-200", "full", "lm-eval-cot"], ["card-5-shot"]),
        ("run mmlu -m x --protocol card", ["card-5-shot", "card-5-shot-nan"], ["card-200"]),
        ("explain --benchmark mmlu --protocol 0", ["0-shot"], ["card-200"]),
        ("train ", ["sft", "rm", "dpo", "ppo"], []),
        ("train ppo --recipe ", ["easylm-large-rm", "card"], ["reproduce"]),
        ("train sft --device cpu -r ", ["tiny", "reproduce"], ["card"]),
        ("run gs", ["gsm8k", "gsm-symbolic"], ["mmlu"]),
        ("run tulu-2.5", ["tulu-2.5", "tulu-2.5-quick"], []),
        ("verify x --as tulu-2-13", ["tulu-2-13b"], ["tulu-2-7b"]),
        ("models --stage ", ["PPO", "DPO", "value"], []),
        ("list ", ["runs", "recipes"], []),
        ("table --format ", ["markdown", "csv"], []),
    ],
)
def test_a_shell_completes_names(typed: str, known: list[str], others: list[str]) -> None:
    """Asks click for completions, as the scripts of bash, zsh and fish do with the words typed so far."""
    words = typed.split(" ")
    found = {
        one.value for one in ShellComplete(cli, {}, "tulu-eval", "_TULU_EVAL_COMPLETE").get_completions(words[:-1], words[-1])
    }
    assert {*known} <= found
    assert not {*others} & found


def test_the_next_command_can_be_copied(capsys: pytest.CaptureFixture[str]) -> None:
    common.then("verify", "a folder/x")
    common.then("verify", "x", quiet=True)
    assert capsys.readouterr() == ("", "next: tulu-eval verify 'a folder/x'\n")


def test_an_option_is_the_same_in_every_verb() -> None:
    """One word for one thing: an option of one name has one short form, one type and one number of values."""
    options = [(verb, one) for verb, command in commands() for one in command.params if isinstance(one, click.Option)]
    names: dict[str, set[tuple[str, bool, bool]]] = {}
    shorts: dict[str, set[str]] = {}
    for verb, one in options:
        assert not set(one.opts) & set(LEFT), (verb, one.opts)
        long = next(name for name in one.opts if name.startswith("--"))
        kind = "flag" if one.is_flag else type(one.type).__name__
        names.setdefault(long, set()).add((kind, one.is_flag, one.multiple))
        for short in set(one.opts) - {long}:
            shorts.setdefault(short, set()).add(long)
    assert {name for name, kinds in names.items() if len(kinds) > 1} == set(OTHERWISE)
    assert {short: longs for short, longs in shorts.items() if len(longs) > 1} == {"-m": {"--model", "--models"}}


@pytest.mark.parametrize("columns", [80, 0])
def test_a_terminal_gets_errors_wrapped_between_words_and_a_pipe_one_line(columns: int) -> None:
    """At 80 columns; a terminal that does not know its width (0) wraps for itself."""
    words = [sys.executable, "-m", "tulu_eval", "run", "gsm8k", "-m", "x", "--num_fewshot", "5"]
    piped = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60).stderr
    assert piped.count("\n") == 1
    assert len(piped) > 90
    reader, terminal = os.openpty()
    try:
        termios.tcsetwinsize(terminal, (24, columns))
        subprocess.run(words, stderr=terminal, check=False, timeout=60)
        shown = os.read(reader, 10_000).decode().replace("\r\n", "\n")
    finally:
        os.close(reader)
        os.close(terminal)
    assert " ".join(shown.split()) == " ".join(piped.split())
    assert (shown.count("\n") > 1) == (columns == 80)
    assert columns == 0 or all(len(line) <= 80 for line in shown.splitlines())
