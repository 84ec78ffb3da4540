"""Habits from lm-eval and inspect: what works, and what gets one line."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from tulu_eval.cli import cli, foreign


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("run gsm8k --batch_size auto -m x", "run gsm8k --batch-size 0 -m x"),
        ("run gsm8k --batch-size=auto", "run gsm8k --batch-size=0"),
        ("run gsm8k --tp 2", "run gsm8k --tensor-parallel 2"),
        ("models list --stage DPO", "models --stage DPO"),
        ("list models --stage PPO", "models --stage PPO"),
        ("tasks", "list benchmarks"),
        ("benchmarks --json", "list benchmarks --json"),
        ("view", "report"),
        ("report --write x_y.html", "report --output x_y.html"),
        ("table --write=a.md", "table --output=a.md"),
        ("card m --write folder", "card m --output folder"),
        ("explain run --write page.html", "explain run --output page.html"),
        ("audit run --items 4", "audit run --limit 4"),
        ("calibrate-judge a.json --size=40", "calibrate-judge a.json --limit=40"),
        ("train ppo --probe_items 8", "train ppo --probe-limit 8"),
        ("run gsm8k --write x", "run gsm8k --write x"),
        ("--debug ls", "--debug list runs"),
        ("--debug models list --json", "--debug models --json"),
        ("run a_b --max_model_len=8", "run a_b --max-model-len=8"),
    ],
)
def test_what_works(typed: str, meant: str) -> None:
    assert foreign.translated(typed.split()) == meant.split()


def test_names_with_commas() -> None:
    assert foreign.split(["gsm8k,alpaca-eval", "bbh"]) == ("gsm8k", "alpaca-eval", "bbh")


@pytest.mark.parametrize("option", sorted(foreign.FIXED))
def test_what_the_protocol_fixes(option: str) -> None:
    done = CliRunner().invoke(cli, ["run", "gsm8k", "-m", "x", option.replace("-", "_").replace("__", "--", 1), "3"])
    assert done.exit_code == 2
    assert done.stderr.startswith(f"tulu-eval: the protocol fixes {foreign.FIXED[option]}, so there is no {option};")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("words", ["train ppo --epochs 2", "train dpo --temperature 1", "reproduce --temperature 1"])
def test_no_protocol_is_said_to_fix_what_a_recipe_fixes(words: str) -> None:
    done = CliRunner().invoke(cli, words.split())
    assert done.exit_code == 2
    assert done.stderr.startswith("tulu-eval: no such option '--")
    assert "protocol" not in done.stderr


@pytest.mark.parametrize("option", sorted(foreign.ELSEWHERE))
def test_what_is_elsewhere(option: str) -> None:
    done = CliRunner().invoke(cli, ["run", "gsm8k", "-m", "x", option, "3"])
    assert done.stderr == f"tulu-eval: no such option {option}: {foreign.ELSEWHERE[option]}\n"


@pytest.mark.parametrize("typo", ["--fres", "--freshh", "--allow-pickel", "--unsafe-executio", "--trust-remote-cod"])
def test_no_typing_error_ends_in_an_option_that_destroys(typo: str) -> None:
    done = CliRunner().invoke(cli, ["run", "gsm8k", "-m", "x", typo])
    assert done.exit_code == 2
    assert not any(harmful in done.stderr.replace(typo, "") for harmful in foreign.HARMFUL)


def test_near_options_are_told() -> None:
    done = CliRunner().invoke(cli, ["run", "gsm8k", "-m", "x", "--limits", "3"])
    assert done.stderr == "tulu-eval: no such option '--limits'. Did you mean '--limit'? Try 'tulu-eval run --help'.\n"
