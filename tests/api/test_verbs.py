"""Every verb of the command line calls one public function: the list, and that it is so."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any, Never

import pytest
from click.testing import CliRunner
from click_tree import commands

import tulu_eval
from tulu_eval.cli import cli

FUNCTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "run": ("evaluate", ("run", "gsm8k", "-m", "./x")),
    "run --dry-run": ("plan", ("run", "gsm8k", "-m", "./x", "--dry-run")),
    "run SUITE": ("evaluate_suite", ("run", "tulu-2.5", "-m", "./x")),
    "run SUITE --dry-run": ("plan_suite", ("run", "tulu-2.5", "-m", "./x", "--dry-run")),
    "merge": ("merge", ("merge", "x")),
    "score": ("rescore", ("score", "x")),
    "score JUDGED": ("rescore_judgments", ("score", "judged")),
    "score alpaca-eval": ("score_annotations", ("score", "alpaca-eval", "--annotations", "x")),
    "verify": ("verify", ("verify", "x")),
    "explain": ("explain", ("explain", "x")),
    "compare": ("compare", ("compare", "x", "y")),
    "audit": ("audit", ("audit", "x")),
    "plan": ("items_needed", ("plan", "gsm8k", "-m", "x", "y", "-d", "2")),
    "plan SUITE": ("plan_models", ("plan", "tulu-2.5", "-m", "models.txt", "--gpus", "8")),
    "import": ("import_run", ("import", "x", "-m", "y")),
    "table": ("table", ("table",)),
    "report": ("report", ("report", "--results", "x")),
    "list": ("list_known", ("list", "suites")),
    "models": ("list_models", ("models",)),
    "models show": ("find_model", ("models", "show", "x")),
    "card": ("make_card", ("card", "x")),
    "card --check": ("check_card", ("card", "--check", "x")),
    "bundle": ("bundle", ("bundle", "x")),
    "verify-bundle": ("verify_bundle", ("verify-bundle", "x")),
    "judge": ("judge", ("judge", "x", "--judge", "y")),
    "judge --dry-run": ("plan_judging", ("judge", "x", "--judge", "y", "--dry-run")),
    "compare-outputs": ("compare_outputs", ("compare-outputs", "x", "--with", "y")),
    "calibrate-judge": ("calibrate_judge", ("calibrate-judge", "x", "--judge", "y", "-o", "z")),
    "calibrate-judge --dry-run": ("plan_calibration", ("calibrate-judge", "x", "--judge", "y", "-o", "z", "--dry-run")),
    "train": ("train", ("train", "sft", "-r", "x")),
    "train --dry-run": ("plan_training", ("train", "sft", "-r", "x", "--dry-run")),
    "reproduce": ("reproduce", ("reproduce", "-r", "sums")),
    "reproduce --dry-run": ("plan_reproduction", ("reproduce", "-r", "sums", "--dry-run")),
    "doctor": ("doctor", ("doctor",)),
}
"""Verb, with what makes it call another function: that function, and words that do it."""

BESIDE = {"models.py": {"load_suite"}}
"""What a verb's file also takes to print what its function returned: a model's numbers are in the suite."""


class Called(Exception):
    """Ends a verb where it calls a public function."""


def _short(verb: str) -> str:
    return verb.split(" --")[0]


def test_every_verb_is_in_the_list() -> None:
    verbs = set(dict(commands()))
    assert verbs <= set(FUNCTIONS)
    assert {
        verb.split(" --")[0].removesuffix(" SUITE").removesuffix(" JUDGED").removesuffix(" alpaca-eval") for verb in FUNCTIONS
    } == verbs
    functions = [function for function, _ in FUNCTIONS.values()]
    assert len(set(functions)) == len(functions)
    assert set(functions) <= set(tulu_eval.__all__)


@pytest.mark.parametrize("verb", FUNCTIONS)
def test_a_verb_calls_its_function(verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    function, words = FUNCTIONS[verb]
    for name in ("x", "y", "judged"):
        (tmp_path / name).mkdir()
    (tmp_path / "models.txt").write_text("x\n")
    (tmp_path / "judged" / "judging.json").write_text("{}")

    def instead(name: str) -> Callable[..., Never]:
        def call(*args: Any, **kwargs: Any) -> Never:
            raise Called(name)

        return call

    for name in tulu_eval.__all__:
        if name[0].islower():
            monkeypatch.setattr(tulu_eval, name, instead(name))
    done = CliRunner().invoke(cli, words)
    assert isinstance(done.exception, Called), done.output
    assert str(done.exception) == function
    assert done.output == ""


def test_a_verb_calls_nothing_else() -> None:
    """In the files of the command line, names of the package are those of the list."""
    taken: dict[str, set[str]] = {}
    for path in Path(tulu_eval.__file__).parent.joinpath("cli").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "tulu_eval":
                taken.setdefault(path.name, set()).add(node.attr)
    for name, beside in BESIDE.items():
        taken[name] -= beside
    assert sorted(name for names in taken.values() for name in names) == sorted(function for function, _ in FUNCTIONS.values())
