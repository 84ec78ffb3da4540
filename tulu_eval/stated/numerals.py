"""Reads numerals as people and models write them, exactly: ``1,234.50``, ``9{,}500``, ``1 1/2``, ``1.5 × 10^3``.

The reader takes a whole numeral or nothing: ``1,2,3`` and ``3.5.2`` are not numerals. Values are fractions, so ``0.1`` is one
tenth. Their size is limited (:data:`MAX_DIGITS`, :data:`MAX_EXPONENT`), so that no text can stall the reader.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from fractions import Fraction

from tulu_eval.stated.tokens import Token

MAX_DIGITS = 100
"""Largest number of digits of a numeral; the reader rejects longer ones. No benchmark needs more than about ten."""

MAX_EXPONENT = 100
"""Largest absolute value of an exponent that the reader evaluates."""

_FRACTIONS = frozenset((r"\frac", r"\dfrac", r"\tfrac", r"\cfrac"))


def literal(text: str, rupees: bool = False) -> Fraction | None:
    """Returns the value of digits with separators, ``None`` if it is ambiguous.

    A single ``.`` is a decimal point and ``,`` separates thousands. ``1.000.000`` and ``1.234,56`` can only mean the reverse,
    so the function reads them so. With ``rupees``, ``1,00,000`` is a number too; without, it could be a list.
    """
    if text.isascii() and text.isdecimal():  # most numerals
        return Fraction(int(text)) if len(text) <= MAX_DIGITS else None
    text = re.sub(r",?\\[,;:! ] ?|~|\{,\}", "\x00", text)
    digits, _, power = text.lower().partition("e")
    if len(text) > 2 * MAX_DIGITS or sum(map(str.isdecimal, digits)) > MAX_DIGITS:
        return None
    if power and abs(int(power)) > MAX_EXPONENT:
        return None
    mark, point = next((letter for letter in digits if letter in ",'_\x00"), ""), "."
    if digits.count(".") > 1 or ("." in digits and "," in digits and digits.index(".") < digits.index(",")):
        mark, point = ".", ","
    whole, _, decimals = digits.partition(point)
    if (whole and not _grouped(whole, mark, rupees)) or (decimals and not decimals.isdecimal()):
        return None
    value = Fraction(int(re.sub(r"\D", "", whole) or "0") * 10 ** len(decimals) + int(decimals or "0"), 10 ** len(decimals))
    return value * Fraction(10) ** int(power) if power else value


def _grouped(whole: str, mark: str, rupees: bool) -> bool:
    """Whether the part before the decimal point is digits, or groups of digits with one kind of separator."""
    if not mark or mark not in whole:
        return whole.isdecimal()
    first, *rest = whole.split(mark)
    if not all(group.isdecimal() for group in (first, *rest)) or first.startswith("0"):
        return False
    if len(first) <= 3 and all(len(group) == 3 for group in rest):
        return True
    return rupees and mark == "," and len(first) <= 2 and len(rest[-1]) == 3 and all(len(group) == 2 for group in rest[:-1])


@dataclasses.dataclass(frozen=True, slots=True)
class Numeral:
    """A numeral without its sign; ``after`` is the index of the first token behind it."""

    value: Fraction
    after: int


def numeral(tokens: Sequence[Token], at: int, rupees: bool = False) -> Numeral | None:
    """Returns the longest numeral that starts at a token; ``None`` if there is none, or if it is ambiguous."""
    whole = _atom(tokens, at, rupees)
    if whole is None:
        return None
    after = whole.after
    if after - at == 1 and tokens[at].text.isdecimal():
        joined = after + 1 if _text(tokens, after).lower() == "and" else after
        part = _atom(tokens, joined, False)
        if part is not None and _is_fraction(tokens, joined, part) and part.value < 1:
            return Numeral(whole.value + part.value, part.after)
    power = _power_of_ten(tokens, after)
    if power is not None:
        return Numeral(whole.value * power.value, power.after)
    return whole


def _atom(tokens: Sequence[Token], at: int, rupees: bool) -> Numeral | None:
    """Returns digits, a fraction, or a power of digits."""
    if _text(tokens, at) in _FRACTIONS:
        return _latex_fraction(tokens, at)
    if _kind(tokens, at) != "number":
        return None
    value = literal(tokens[at].text, rupees)
    if value is None:
        return None
    sign = _text(tokens, at + 1)
    if sign == "/" and _kind(tokens, at + 2) == "number":
        below = literal(tokens[at + 2].text)
        return Numeral(value / below, at + 3) if below else None
    if sign in ("^", "**") and tokens[at + 1].glued:
        power = _exponent(tokens, at + 2)
        if power is not None:
            return _raised(value, power)
    return Numeral(value, at + 1)


def _is_fraction(tokens: Sequence[Token], at: int, part: Numeral) -> bool:
    return _text(tokens, at) in _FRACTIONS or (part.after - at == 3 and tokens[at + 1].text == "/")


def _latex_fraction(tokens: Sequence[Token], at: int) -> Numeral | None:
    r"""Returns the value of ``\frac{3}{4}`` or ``\frac34``, with a sign before either argument; ``None`` for anything else."""
    digits = _text(tokens, at + 1)
    if _kind(tokens, at + 1) == "number" and len(digits) == 2 and digits.isdecimal():
        return Numeral(Fraction(int(digits[0]), int(digits[1])), at + 2) if digits[1] != "0" else None
    values = []
    after = at + 1
    for _ in range(2):
        if _text(tokens, after) != "{":
            return None
        after += 1
        sign = 1
        if _text(tokens, after) == "-":
            sign, after = -1, after + 1
        value = literal(tokens[after].text) if _kind(tokens, after) == "number" else None
        if value is None or _text(tokens, after + 1) != "}":
            return None
        values.append(sign * value)
        after += 2
    return Numeral(values[0] / values[1], after) if values[1] else None


def _exponent(tokens: Sequence[Token], at: int) -> Numeral | None:
    braces = _text(tokens, at) == "{"
    at += braces
    negative = _text(tokens, at) == "-"
    at += negative
    digits = _text(tokens, at)
    if not (digits.isdecimal() and len(digits) <= 3) or (braces and _text(tokens, at + 1) != "}"):
        return None
    return Numeral(Fraction(-int(digits) if negative else int(digits)), at + 1 + braces)


def _raised(value: Fraction, power: Numeral) -> Numeral | None:
    size = max(value.numerator.bit_length(), value.denominator.bit_length())
    exponent = int(power.value)
    if abs(exponent) > MAX_EXPONENT or size * abs(exponent) > 4 * MAX_DIGITS or (exponent < 0 and not value):
        return None
    return Numeral(value**exponent, power.after)


def _power_of_ten(tokens: Sequence[Token], at: int) -> Numeral | None:
    if _text(tokens, at) in ("×", "*", "x", "X") and _text(tokens, at + 1) == "10" and _text(tokens, at + 2) in ("^", "**"):
        return _atom(tokens, at + 1, False)
    return None


def written(value: Fraction) -> str:
    """Returns a value as a decimal if 30 places are enough, else as a fraction: ``18``, ``-0.75``, ``1/3``."""
    if value.denominator == 1:
        return str(value.numerator)
    places = next((size for size in range(1, 31) if not 10**size % value.denominator), None)
    if places is None:
        return str(value)
    whole, part = divmod(abs(value.numerator) * 10**places // value.denominator, 10**places)
    return f"{'-' if value < 0 else ''}{whole}.{part:0{places}}"


def _text(tokens: Sequence[Token], at: int) -> str:
    return tokens[at].text if at < len(tokens) else ""


def _kind(tokens: Sequence[Token], at: int) -> str:
    return tokens[at].kind if at < len(tokens) else ""
