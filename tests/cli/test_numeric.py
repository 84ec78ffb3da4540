"""Options take plain finite numbers, and an empty value is not an absent one."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from tulu_eval.cli import cli
from tulu_eval.cli.numeric import NUMBER, WHOLE, NumberRange, WholeRange

ODD = ("", " ", "nan", "inf", "-Infinity", "１２", "1_0", "٣", "0x10", "1e999", "9" * 400, "1 2", "\x1b[31m")

REST = {"plan": ("gsm8k", "--models", "a", "b"), "reproduce": ("--recipe", "sums")}
"""What else a verb needs before it looks at a number."""


def numeric_options() -> Iterator[tuple[str, str]]:
    """Yields verb and name of each option that takes a number."""
    for verb, command in cli.commands.items():
        for option in command.params:
            if not getattr(option, "count", False) and isinstance(
                option.type, (click.types.IntParamType, click.types.FloatParamType)
            ):
                yield verb, option.opts[0]


def test_no_option_takes_numbers_as_python_does() -> None:
    plain = (type(click.INT), type(click.FLOAT), click.IntRange, click.FloatRange)
    options = [(verb, option) for verb, command in cli.commands.items() for option in command.params]
    assert [option.name for _, option in options if type(option.type) in plain and not getattr(option, "count", False)] == []


@pytest.mark.parametrize(("verb", "option"), list(numeric_options()))
def test_what_is_no_number_is_refused_in_one_line(verb: str, option: str) -> None:
    for value in ODD:
        result = CliRunner().invoke(cli, [verb, *REST.get(verb, ()), option, value])
        assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (2, "", 1), (value, result.output)
        assert f"Invalid value for '{option}'" in result.stderr, (value, result.stderr)


def test_an_empty_shard_is_not_the_whole_run() -> None:
    for value in ("", " ", "1", "０/2", "１/2", "0/2", "3/2", "1/2/3", "-1/2"):
        result = CliRunner().invoke(cli, ["run", "gsm-symbolic", "--model", "./nowhere", "--shard", value])
        assert result.exit_code == 2
        assert "--shard must be I/N" in result.stderr, (value, result.stderr)


def test_plain_numbers_are_taken() -> None:
    assert [WHOLE.convert(text, None, None) for text in ("0", "-3", "+7", "000")] == [0, -3, 7, 0]
    assert [NUMBER.convert(text, None, None) for text in ("0.5", ".5", "5.", "1e-3", "-2")] == [0.5, 0.5, 5.0, 0.001, -2.0]
    assert WholeRange(min=1).convert("2", None, None) == 2
    assert NumberRange(0, 1).convert("0.3", None, None) == 0.3
