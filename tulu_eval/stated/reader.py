"""Reads one statement, token by token: the value, its sign, currency and unit, and anything after it that casts doubt.

A statement ends with its sentence or its line. The value ends with its clause: at a comma, a dash, or a word such as
``because``. The reader returns nothing if the value's clause, or a clause that does not explain it, has another number.
"""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Sequence
from fractions import Fraction

from tulu_eval.stated import vocabulary
from tulu_eval.stated.numerals import numeral
from tulu_eval.stated.tail import CLOSING, RELATIONS, Tail, is_break
from tulu_eval.stated.tokens import OPENING_LATEX, Token

_OPENING = frozenset("*_\"'`()[]{}:,—~≈") | {"**", "\\(", "\\[", "\\)", "\\]", "→", "=>", "->"} | OPENING_LATEX
_OPEN_ENDS = frozenset((",", "+", "-", "×", "÷", "/", "=", "≈", "^", "and", "or"))
_JOINS_LINES = frozenset(("=", "+", "×", "÷", "/", "≈", "^"))


class StatementReader:
    """One statement.

    Args:
        tokens: Tokens of the text after ``answer is``.
        whole: Whether the text is complete; if not, the statement must end within it.
    """

    def __init__(self, tokens: Sequence[Token], whole: bool) -> None:
        self._all = tokens
        start = next((at for at, token in enumerate(tokens) if token.kind != "line"), len(tokens))
        self._stop = self._sentence_end(start)
        self._start = start
        self._ended = whole or self._stop < len(tokens)
        self._tokens = [token for token in tokens[start : self._stop] if token.kind != "line"]
        self.end = tokens[self._stop - 1].end if self._stop > start else 0

    def value(self) -> Fraction | None:
        """Returns the number that the statement gives; ``None`` if it gives none or several, or is ambiguous."""
        tokens = self._tokens
        if not tokens or not self._ended or self._is_question() or self._is_list_item():
            return None
        begin = self._right_side()
        if begin is None:
            return None
        head = _Head.read(tokens, begin)
        if head is None:
            return None
        found = numeral(tokens, head.after, head.rupees)
        if found is None:
            return None
        value = Tail(tokens, found.after, head.money, found.value).read()
        return -value if value is not None and head.negative else value

    def _sentence_end(self, at: int) -> int:
        """Returns the index of the first token after the sentence; a line that starts with an operator continues the last."""
        while at < len(self._all):
            token = self._all[at]
            if token.kind == "line" and self._ends_line(at):
                return at
            if token.text in (".", "!", "?") and self._ends_sentence(at):
                return at
            at += 1
        return at

    def _ends_line(self, at: int) -> bool:
        """Whether the end of a line ends the statement: a number came, and neither this line nor the next continues it."""
        around = self._all[max(0, at - 1) : at + 3]
        number = any(token.kind == "number" for token in self._all[:at])
        open_end = around[0].text.lower() in _OPEN_ENDS
        following = [token.text for token in around[2:]]
        minus = following[:1] == ["-"] and around[-1].kind == "number"
        return number and not (open_end or minus or _JOINS_LINES.intersection(following[:1]))

    def _ends_sentence(self, at: int) -> bool:
        before = self._all[at - 1].text.lower() if at and self._all[at - 1].kind == "word" else ""
        if len(before) == 1 or before in vocabulary.ABBREVIATIONS:
            return at + 1 == len(self._all)
        following = self._all[at + 1] if at + 1 < len(self._all) else None
        if following is not None and following.text in RELATIONS:
            return False  # "3! = 6"
        return following is None or not following.glued or following.text in CLOSING or following.kind == "line"

    def _is_question(self) -> bool:
        return self._stop < len(self._all) and self._all[self._stop].text == "?"

    def _is_list_item(self) -> bool:
        """Whether a line below starts a list, as "1. Add ..." does: a number, a full stop, and more text on its line."""
        if self._stop + 1 >= len(self._all) or self._all[self._stop].text != ".":
            return False
        digits = next((at for at, token in enumerate(self._all) if token.kind == "number"), 0)
        below = any(token.kind == "line" for token in self._all[:digits])
        return below and self._all[self._stop + 1].kind != "line"

    def _right_side(self) -> int | None:
        """Returns the start of an equation's last side; 0 without an equation, ``None`` if an earlier side is unreadable."""
        begin, seen = 0, False
        for at, token in enumerate(self._tokens):
            if token.text in RELATIONS:
                side = self._tokens[begin:at]
                if not _is_left_side(side) or (begin and all(each.kind == "sign" for each in side)):
                    return None
                begin = at + 1
            elif seen and is_break(self._tokens, at):
                break
            seen = seen or token.kind == "number"
        return begin


def _is_left_side(side: Sequence[Token]) -> bool:
    """Whether a side can stand left of ``=``: words without a number, or numbers without an unknown."""
    numbers = any(token.kind == "number" for token in side)
    names = [token.text.lower() for token in side if token.kind == "word"]
    if any(name in vocabulary.REFUSED_LEFT for name in names) or any(token.text in "<>≠≥≤!~" for token in side):
        return False
    unknown = any(
        token.kind == "word" and len(token.text) == 1 and token.text not in vocabulary.LETTERS and not _is_times(side, at)
        for at, token in enumerate(side)
    )
    return not (numbers and unknown)


def _is_times(side: Sequence[Token], at: int) -> bool:
    return side[at].text in "xX" and 0 < at < len(side) - 1 and side[at + 1].kind == "number"


@dataclasses.dataclass(frozen=True, slots=True)
class _Head:
    """The tokens before the digits.

    Attributes:
        after: Index of the token at which the digits start.
        negative: Whether there is a minus sign.
        money: Whether there is a currency.
        rupees: Whether the currency is the rupee, which groups digits above a thousand in twos.
    """

    after: int
    negative: bool
    money: bool
    rupees: bool

    @classmethod
    def read(cls, tokens: Sequence[Token], at: int) -> _Head | None:
        """Returns the head that starts at a token; ``None`` if a token before the digits could change the number."""
        negative = signed = money = rupees = False
        while at + 1 < len(tokens) or (at < len(tokens) and tokens[at].kind == "number"):
            token, name = tokens[at], tokens[at].text.lower()
            if token.kind == "number" or (token.kind == "latex" and len(name) > 2 and name not in OPENING_LATEX):
                labelled = at > 0 and token.glued and tokens[at - 1].kind == "word" and not money  # "A1"
                return None if labelled else cls(at, negative, money, rupees)
            following = tokens[at + 1]
            if name in ("-", "+", "minus", "negative"):
                if signed or (name == "-" and not following.glued):
                    return None
                signed, negative = True, name != "+"
            elif _is_currency(token, following):
                money, rupees = True, rupees or name in vocabulary.RUPEES
            elif not _is_harmless(tokens, at):
                return None
            at += 1
        return None


def _is_currency(token: Token, following: Token) -> bool:
    """Whether a token is a currency, or its first letters: ``$``, ``USD``, the ``HK`` of ``HK$``."""
    if unicodedata.category(token.text[0]) == "Sc" or token.text.lower() in vocabulary.CURRENCIES:
        return True
    return token.kind == "word" and token.text.isupper() and following.glued and unicodedata.category(following.text[0]) == "Sc"


def _is_harmless(tokens: Sequence[Token], at: int) -> bool:
    """Whether a token before the number leaves it unchanged: markup, a word such as ``approximately``, a pause."""
    name = tokens[at].text.lower()
    if tokens[at].text == "—":
        return not tokens[at + 1].glued  # else it may be a minus sign
    if name == "a":
        return tokens[at + 1].kind in ("word", "number")  # else it is a label, "(a) 18"
    if name == ".":
        return at > 0 and tokens[at - 1].text.lower() in vocabulary.DOTTED
    return tokens[at].text in _OPENING or name in vocabulary.FILLERS
