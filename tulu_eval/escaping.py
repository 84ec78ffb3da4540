"""Escapes untrusted texts (names of models, engines and judges, answers) for formats with special characters."""

from __future__ import annotations

import html as _html
import re
from typing import Any

from tulu_eval.errors import printable, printable_lines

_MARKUP = re.compile(r"[<>]|&(?=[A-Za-z#])")
_NAMES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # the last four are full-width
_NUMBER = re.compile(r"[+-]?\d[\d.,]*%?|-")


def html(text: str) -> str:
    """Returns a text that HTML shows as it is, in an element or in the value of an attribute."""
    return _html.escape(printable_lines(text))


def markdown(text: str) -> str:
    """Returns a text as one line of Markdown, with its HTML escaped."""
    return _MARKUP.sub(lambda found: _NAMES[found[0]], printable(text))


def markdown_cell(text: str) -> str:
    """Returns a text as a cell of a Markdown table, with HTML and ``|`` escaped."""
    return markdown(text).replace("|", "\\|")


def markdown_code(text: str) -> str:
    """Returns a text for code between single backticks, in which only the backtick is special."""
    return printable(text).replace("`", "'")


def csv_cell(value: Any) -> Any:
    """Returns a cell that no spreadsheet takes for a formula: puts ``'`` before a text that starts like one.

    Numbers stay as they are.
    """
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.startswith(_FORMULA) and not _NUMBER.fullmatch(text) else text
