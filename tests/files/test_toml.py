"""TOML that is none is one line with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from tulu_eval.errors import DataError
from tulu_eval.files import parse_toml


def test_tables_are_returned() -> None:
    assert parse_toml('[a]\nb = [1, "x"]\n', Path("a.toml")) == {"a": {"b": [1, "x"]}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = 1\nb = \n", "a.toml:2: is not TOML: Invalid value"),
        ("a = 1\na = 2\n", "a.toml:2: is not TOML: Cannot overwrite a value"),
        ("[a", "a.toml: is not TOML: Expected ']' at the end of a table declaration (at end of document)"),
        ("a = 2026-02-30\n", "a.toml:1: is not TOML: Invalid date or datetime"),
        (f"a = {'9' * 5000}\n", "a.toml: is not TOML: Exceeds the limit (4300 digits) for integer string conversion"),
        (f"a = {'[' * 100_000}", "a.toml: is not readable TOML: nested too deeply"),
    ],
    ids=lambda value: value[:30],
)
def test_what_is_no_toml_is_one_line(text: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        parse_toml(text, Path("a.toml"))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
