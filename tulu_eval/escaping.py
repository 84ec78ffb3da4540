"""Texts from anywhere (names of models, engines, judges, answers) in formats that give some characters a meaning."""

from __future__ import annotations

import html as _html
import re
from typing import Any

from tulu_eval.errors import printable, printable_lines

_MARKUP = re.compile(r"[<>]|&(?=[A-Za-z#])")
_NAMES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
_FORMULA = ("=", "+", "-", "@")
_NUMBER = re.compile(r"[+-]?\d[\d.,]*%?|-")


def html(text: str) -> str:
    """Returns a text that HTML shows as it is, in an element or in the value of an attribute."""
    return _html.escape(printable_lines(text))


def markdown(text: str) -> str:
    """Returns one line of Markdown in which a text has no HTML."""
    return _MARKUP.sub(lambda found: _NAMES[found[0]], printable(text))


def markdown_cell(text: str) -> str:
    """Returns a text as a cell of a Markdown table."""
    return markdown(text).replace("|", "\\|")


def markdown_code(text: str) -> str:
    """Returns a text as code between single backticks, where Markdown knows nothing but the backtick."""
    return printable(text).replace("`", "'")


def csv_cell(value: Any) -> Any:
    """Returns a cell that no spreadsheet takes for a formula: ``'`` before a text that begins like one; numbers as they are."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.startswith(_FORMULA) and not _NUMBER.fullmatch(text) else text
