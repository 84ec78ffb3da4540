"""Literals, numerals, and how a value is written."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulu_eval.stated.numerals import literal, numeral, written
from tulu_eval.stated.tokens import plain, tokenize


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("18", "18"), ("018", "18"), (".5", "0.5"), ("1,234", "1234"), ("1.234", "1.234"), ("1.234.567", "1234567"),
        ("1.234,5", "1234.5"),
        ("1'234.5", "1234.5"), ("1_000", "1000"), ("9{,}500", "9500"), ("1e3", "1000"), ("1E-3", "0.001"),
        ("1,2", None), ("1,2,3", None),
        ("1.2.3", None), ("1,234'567", None), ("0,123", None), ("1,234.567,8", None), ("1e101", None),
        ("9" * 101, None), ("1,00,000", None),
    ],
)  # fmt: skip
def test_literals(text: str, value: str | None) -> None:
    assert literal(text) == (None if value is None else Fraction(value))


def test_rupees_are_grouped_in_twos() -> None:
    assert literal("12,34,567", rupees=True) == 1234567
    assert literal("1,2,3", rupees=True) is None


@pytest.mark.parametrize(
    ("text", "value", "after"),
    [("3/4 cup", "3/4", 3), ("1 1/2", "3/2", 4), ("1½", "3/2", 4), ("1 2", "1", 1), ("2^3", "8", 3), ("2^-3", "1/8", 4),
     ("5³", "125", 5),
     ("1 000 000", "1000000", 1), ("1.5 x 10^3", "1500", 5), ("10^3^2", "1000", 3), ("\\frac12", "1/2", 2), ("1 3/2", "1", 1)],
)  # fmt: skip
def test_a_numeral_goes_as_far_as_it_can(text: str, value: str, after: int) -> None:
    found = numeral(tokenize(plain(text)), 0)
    assert found is not None
    assert (found.value, found.after) == (Fraction(value), after)


@given(st.fractions())
def test_what_is_written_is_the_value(value: Fraction) -> None:
    assert Fraction(written(value)) == value


@pytest.mark.parametrize(("value", "text"), [("18.00", "18"), ("-0.05", "-0.05"), ("1/3", "1/3"), ("3/4", "0.75"), ("0", "0")])
def test_a_value_is_written_plainly(value: str, text: str) -> None:
    assert written(Fraction(value)) == text
