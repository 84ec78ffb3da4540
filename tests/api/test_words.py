"""Errors in the words of who called: parameters from Python, options from the command line."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

import tulu_eval
from tulu_eval.api.words import PARAMETERS, in_python
from tulu_eval.backends.base import EngineSettings
from tulu_eval.cli import cli

OTHERS = {"max-restarts", "no-deps", "check", "generation-config", "save-raw-requests"}
"""Options of torchrun, pip, vLLM and olmes; one that only a docstring of a report speaks of."""

OPTION = re.compile(r"'tulu-eval [^']*'|`tulu-eval [^`]*`?|(?<![\w-])--([a-z][a-z-]*)(?![\w-])")


@pytest.mark.parametrize(
    ("option", "parameter"),
    [
        ("--limit must be 1 or more, not 0", "limit must be 1 or more, not 0"),
        ("--max-cost needs a price: give --price IN,OUT", "max_cost needs a price: give price IN,OUT"),
        ("choose another --output, or --fresh to set it aside", "choose another output, or fresh=True to set it aside"),
        ("--as NAME compares with the numbers of model NAME", "against=NAME compares with the numbers of model NAME"),
        ("--backend openai needs --base-url URL, such as", "backend openai needs served=URL, such as"),
        ("--shard 3/2: there are 12 items", "shard 3/2: there are 12 items"),
        ("7 remain; --partial compares these 7", "7 remain; partial=True compares these 7"),
        ("'tulu-eval run ... --shard 1/N' makes the first", "'tulu-eval run ... --shard 1/N' makes the first"),
        ("by itself under torchrun --max-restarts, or not", "by itself under torchrun --max-restarts, or not"),
        ("runs/my--limit.json: not JSON", "runs/my--limit.json: not JSON"),
        ("--limit-ed is no option", "--limit-ed is no option"),
    ],
)
def test_options_become_parameters(option: str, parameter: str) -> None:
    assert in_python(option) == parameter


def texts(path: Path) -> Iterator[str]:
    """Yields a file's strings that are for people: no docstrings, and no words of another program's command."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            yield from [node.value] if " " in node.value else []


def test_every_option_that_a_message_names_is_known() -> None:
    package = Path(tulu_eval.__file__).parent
    unknown = [
        f"{path.relative_to(package)}: --{option}"
        for path in sorted(package.rglob("*.py"))
        if "cli" not in path.parts
        for text in texts(path)
        for option in OPTION.findall(text)
        if option and option not in PARAMETERS and option not in OTHERS
    ]
    assert unknown == []
    settings = {field.name.replace("_", "-") for field in dataclasses.fields(EngineSettings)} - {"served", "prefix-caching"}
    assert settings <= set(PARAMETERS), "they are named by their fields"


def test_both_callers_read_their_own_words(tmp_path: Path, llama3_like: Path, rows: Path) -> None:
    with pytest.raises(tulu_eval.UserError) as caught:
        tulu_eval.evaluate("gsm8k", llama3_like, protocol="custom", data=rows, limit=0, progress=False)
    assert str(caught.value) == "limit must be 1 or more, not 0"
    assert caught.value.command_line == "--limit must be 1 or more, not 0"
    words = ["run", "gsm8k", "-m", str(llama3_like), "--protocol", "custom", "--data", str(rows), "--limit", "0"]
    done = CliRunner().invoke(cli, words)
    assert (done.exit_code, done.stderr) == (2, "tulu-eval: --limit must be 1 or more, not 0\n")
