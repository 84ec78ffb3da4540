"""Errors are one line and name what is near."""

from __future__ import annotations

import pytest

from tulu_eval.errors import DataError, UnknownName, UserError, suggest


@pytest.mark.parametrize(
    ("name", "known", "said"),
    [
        ("gsm8", ["gsm8k", "alpaca-eval"], " Did you mean 'gsm8k'?"),
        ("GSM8K", ["gsm8k"], " Did you mean 'gsm8k'?"),
        ("zzz", ["gsm8k", "alpaca-eval"], " Known: alpaca-eval, gsm8k."),
        ("zzz", [], ""),
        (
            "zzz",
            [f"n{number:02}" for number in range(30)],
            " Known: " + ", ".join(f"n{n:02}" for n in range(24)) + " and 6 more.",
        ),
    ],
)
def test_suggestions(name: str, known: list[str], said: str) -> None:
    assert suggest(name, known) == said


def test_messages_are_one_line() -> None:
    assert str(UserError("a\nb   c")) == "a b c"
    assert str(DataError("x.jsonl", "is bad", 3)) == "x.jsonl:3: is bad"
    assert str(UnknownName("model", "tulu", ["tulu-2"])) == "unknown model 'tulu'. Did you mean 'tulu-2'?"
