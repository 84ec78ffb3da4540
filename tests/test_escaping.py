"""A hostile text is shown as what it is, and is markup or a formula nowhere."""

from __future__ import annotations

import html as standard
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulu_eval import escaping


@given(st.text(st.characters(codec="utf-8").filter(str.isprintable)))
def test_html_shows_a_printable_text_as_it_is(text: str) -> None:
    shown = escaping.html(text)
    assert not set("<>\"'") & set(shown)
    assert standard.unescape(shown) == text


@given(st.text())
def test_a_cell_is_one_line_without_html_and_without_a_bar_of_its_own(text: str) -> None:
    cell = escaping.markdown_cell(text)
    assert not set("<>\n\r\x1b") & set(cell)
    assert cell.replace("\\|", "").count("|") == 0


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a < b & c > d", "a &lt; b & c &gt; d"),
        ("&lt;", "&amp;lt;"),
        ("&#60;", "&amp;#60;"),
        ("R&D | S", "R&amp;D \\| S"),
        ("a\nb\x1b[31m", "a?b?[31m"),
    ],
)
def test_markdown_cell(text: str, shown: str) -> None:
    assert escaping.markdown_cell(text) == shown


def test_code_ends_where_it_should() -> None:
    assert escaping.markdown_code("`x`<b>\n") == "'x'<b>?"


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("-2+3", "'-2+3"),
        ("+cmd", "'+cmd"),
        ("\uff1d1", "'\uff1d1"),  # full-width, which some spreadsheets read as =
        ("-0.5", "-0.5"),
        ("+1,234.5%", "+1,234.5%"),
        ("-", "-"),
        ("a=1", "a=1"),
        (None, None),
        (-0.5, -0.5),
    ],
)
def test_no_spreadsheet_takes_a_cell_for_a_formula(value: Any, cell: Any) -> None:
    assert escaping.csv_cell(value) == cell
