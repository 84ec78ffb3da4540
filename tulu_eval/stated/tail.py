"""Reads the tokens after the digits of a statement: those that belong to the value, and those that cast doubt on it."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from fractions import Fraction

from tulu_eval.stated import vocabulary
from tulu_eval.stated.numerals import numeral
from tulu_eval.stated.tokens import OPENING_LATEX, Token

CLOSING = frozenset("*_\"'`)]}$") | {"**"}
"""Markup, quotes and brackets that may follow a number."""

RELATIONS = frozenset(("=", "==", "≈"))
"""Signs between the sides of an equation."""

_BRACKETS = {"(": ")", "[": "]"}
_PAUSES = frozenset((",", ";", ":", "—", "--", "---"))


def is_break(tokens: Sequence[Token], at: int) -> bool:
    """Whether the clause of the value ends at a token: a pause, a word such as ``because``, or a dash before such a word."""
    token = tokens[at]
    following = tokens[at + 1] if at + 1 < len(tokens) else None
    if token.text in _PAUSES:
        return following is None or not following.glued or following.kind != "number"
    if token.text == "-":
        return not token.glued and following is not None and following.text.lower() in vocabulary.BREAKS  # else a minus
    return token.kind == "word" and token.text.lower() in vocabulary.BREAKS


class Tail:
    """The tokens after the digits; reading them may change the value ("20 thousand")."""

    def __init__(self, tokens: Sequence[Token], at: int, money: bool, value: Fraction) -> None:
        self._tokens = tokens
        self._at = at
        self._first = at
        self._money = money
        self._noun = money
        self._value = value

    def read(self) -> Fraction | None:
        """Returns the value; ``None`` if the statement may mean something else."""
        self._multiply()
        while self._at < len(self._tokens):
            if is_break(self._tokens, self._at):
                return self._value if self._explains(self._at, len(self._tokens)) else None
            step = self._step()
            if not step:
                return None
            self._at += step
        return self._value

    def _multiply(self) -> None:
        name, glued = self._word(self._at)
        if name in vocabulary.MULTIPLIERS and (not glued or len(name) > 1):
            self._value *= vocabulary.MULTIPLIERS[name]
        elif glued and self._tokens[self._at].text in vocabulary.SUFFIXES:
            self._value *= vocabulary.SUFFIXES[self._tokens[self._at].text]
        elif glued and name == "m" and self._money:
            self._value *= vocabulary.SUFFIXES["M"]
        else:
            return
        self._at += 1
        self._first = -1

    def _step(self) -> int:
        """Returns how many tokens at the current place belong to the value as unit or markup; 0 if that is ambiguous."""
        token = self._tokens[self._at]
        if token.kind == "word":
            return self._unit(token)
        if token.text in _BRACKETS:
            return self._bracket(_BRACKETS[token.text])
        following = self._tokens[self._at + 1] if self._at + 1 < len(self._tokens) else None
        if token.text in ("*", "**"):
            return int(following is None or following.kind != "number")
        if token.text == "^":
            return self._power()
        if token.text == "~":
            return int(following is not None and following.kind != "number")
        if token.text in ("/", "-"):
            word = following.text if following is not None and following.kind == "word" and following.glued else ""
            return int(token.glued and (len(word) > 1 or (token.text == "/" and word in vocabulary.LETTERS)))
        if token.text == ".":
            return int(self._tokens[self._at - 1].kind == "word")
        plain = token.text in CLOSING or token.text in ("%", "°", "\\)", "\\]", "{") or token.text in OPENING_LATEX
        return int(plain or unicodedata.category(token.text[0]) in ("Sc", "So"))

    def _unit(self, token: Token) -> int:
        name = token.text.lower()
        if name in ("and", "in", "within", "during", "over", "for"):
            return self._joined(name)
        if name == "or":
            return 2 if self._word(self._at + 1)[0] == "so" else 0
        if self._at == self._first and name in vocabulary.REFUSED_FIRST:
            return 0
        if name in vocabulary.REFUSED or name in vocabulary.NUMBERS or any(letter.isnumeric() for letter in name):
            return 0
        following = self._text(self._at + 1).lower()
        if name == "times" and following.isalpha() and following not in vocabulary.RATES:
            return 0
        suffix = token.glued and (len(name) < 3 or name in vocabulary.ORDINALS)
        if self._at == self._first and name not in vocabulary.UNITS and (suffix or not token.text.isascii()):
            return 0
        abbreviated = following == "." and self._text(self._at + 2).isalpha()
        if len(name) == 1 and (
            self._text(self._at + 2).lower() == "m" if abbreviated else token.text not in vocabulary.LETTERS
        ):
            return 0  # "7 a.m.", "18 x", but not "18 U.S. dollars"
        self._noun = True
        self._money = self._money or name in vocabulary.MONEY
        return 1

    def _joined(self, name: str) -> int:
        """Returns the number of tokens that a word such as "and" joins to the value; 0 if that is ambiguous.

        "and 50 cents" is added to the value, "in 7 days" is not; words without a number are nouns.
        """
        number = self._tokens[self._at + 1] if self._at + 1 < len(self._tokens) else None
        if number is None or number.kind != "number":
            following = self._word(self._at + 1)[0]
            if name == "and":
                return int(following not in vocabulary.OPEN_ENDED and not self._counts(self._at + 1, len(self._tokens)))
            of_day = self._at == self._first and self._word(self._at + 2)[0] in vocabulary.TIMES_OF_DAY
            return int(not (of_day and following == "the"))
        unit = self._word(self._at + 2)[0]
        if name != "and":
            return 3 if unit in vocabulary.TIMES and self._noun else 0
        if not (self._money and unit in vocabulary.HUNDREDTHS and number.text.isdecimal() and len(number.text) <= 2):
            return 0
        self._value += Fraction(int(number.text), 100)
        return 3

    def _power(self) -> int:
        r"""Returns the number of tokens of a unit's power (``m^2``, ``cm^{3}``) or of the degree in ``5^\circ``, else 0."""
        braces = self._text(self._at + 1) == "{"
        size = 4 if braces else 2
        if braces and self._text(self._at + 3) != "}":
            return 0
        raised = self._text(self._at + 1 + braces)
        unit = self._tokens[self._at - 1].kind == "word" or self._text(self._at - 1) == "}"
        return size if raised == "°" or (unit and raised in ("2", "3")) else 0

    def _bracket(self, closing: str) -> int:
        """Returns the number of tokens of a remark in brackets; 0 if its numbers neither explain nor repeat the value."""
        end = next((at for at in range(self._at, len(self._tokens)) if self._tokens[at].text == closing), None)
        if end is None or (self._tokens[self._at].glued and self._at == self._first):
            return 0
        return end + 1 - self._at if self._explains(self._at, end) else 0

    def _explains(self, at: int, end: int) -> bool:
        """Whether tokens from a break or bracket cannot mean another value: no number, the same number, or an explanation."""
        names = [token.text.lower() for token in self._tokens[at + 1 : end] if token.kind == "word"]
        first = self._tokens[at].text.lower()
        if first not in vocabulary.BREAKS and names[:1] and self._tokens[at + 1].kind == "word":
            first, *names = names
        if first in ("or", "to"):
            return names[:1] == ["so"]
        digits = any(token.kind == "number" for token in self._tokens[at + 1 : end])
        if not digits and (self._tokens[at].text in _BRACKETS or not self._counts(at + 1, end)):
            return True
        if any(name in vocabulary.DOUBTFUL or name.startswith(("round", "approx")) for name in names):
            return False
        if first == "as" and "as" in names:
            return False  # "18 times as many as 2"
        return first in vocabulary.EXPLAINS or self._repeats(at + 1, end)

    def _counts(self, at: int, end: int) -> bool:
        return any(token.kind == "number" or token.text.lower() in vocabulary.NUMBERS for token in self._tokens[at:end])

    def _repeats(self, at: int, end: int) -> bool:
        """Whether tokens repeat the value, alone or as the last side of an equation, or derive it in brackets."""
        bracket = self._tokens[at - 1].text in _BRACKETS
        side = max((place + 1 for place in range(at, end) if self._tokens[place].text in RELATIONS), default=at)
        if bracket and side == at and any(token.text in ("+", "×", "*") for token in self._tokens[at + 1 : end]):
            return self._tokens[at].kind == "number"
        numbers = [place for place in range(side, end) if self._tokens[place].kind == "number"]
        found = numeral(self._tokens, numbers[0]) if numbers else None
        return found is not None and found.value == self._value and all(place < found.after for place in numbers)

    def _text(self, at: int) -> str:
        return self._tokens[at].text if at < len(self._tokens) else ""

    def _word(self, at: int) -> tuple[str, bool]:
        """Returns the word at a place in lower case, empty if there is none, and whether no space precedes it."""
        token = self._tokens[at] if at < len(self._tokens) else None
        return (token.text.lower(), token.glued) if token is not None and token.kind == "word" else ("", False)
