r"""Finds the statement of a completion's answer, and reads it to its end.

A statement is ``answer is`` (``would be``, ``equals``, ``final answer:``), with which the exemplars end, or a last line
``Answer: 18``, ``A: 18`` or ``#### 18``. The first statement with a number counts: the exemplars end with theirs, so the text
after it is the model running on. A statement that the completion retracts ("That is wrong.") does not count. Readable are:

* a numeral (:mod:`tulu_eval.stated.numerals`) with sign, currency, percent, unit, noun, markup or ``approximately``;
* ``20 thousand``, ``1.5 million``, ``1.5k``, ``18 dollars and 50 cents``;
* an equation, whose value is that of the part after its last ``=``: ``10 - 4 = 6`` is 6, ``x = 18`` is 18.

Anything else gives no answer, not even from a part of it: ranges, alternatives, lists, ratios, times of day, bounds such as
``at least 18``, quantities in two units (``5 feet 3 inches``), an unevaluated sum (``10 - 4`` may be a range), ``5 dozen`` (the
target may be 5 or 60) and numbers in words. An explanation after the answer may have other numbers (``18, which is 2 * 9``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction

from tulu_eval.stated.numerals import literal
from tulu_eval.stated.reader import StatementReader
from tulu_eval.stated.reasoning import before_next_question, without_reasoning
from tulu_eval.stated.tokens import plain, tokenize

WINDOW = 400
"""Largest length of a statement in characters; a longer one gives no answer."""

_MARKS = r"[*_\"']{0,3}"
_ABOUT = r"(?: ?\([^()\n]{1,60}\))?(?: (?:to|for|of|in|here|then|now|thus|therefore)\b[^\n.:;=?!]{0,80}?)?"
_BE = r"(?:would|will|should|must) be|(?:turns out|has|is going) to be"
_VERBS = rf"(?:'s|\s(?:is|equals|becomes|comes (?:out )?to|works out to|{_BE}))"
_STARTS = re.compile(
    rf"(?<![\w/-])answer{_MARKS}(?:{_ABOUT}{_MARKS}{_VERBS}(?![^\W\d_]|')| ?=)"
    rf"|\bfinal answer{_MARKS} ?:"
    r"|(?P<line>(?<![^\n])[*#_> ]{0,8}(?:answer[*_]{0,3} ?:|a:|####))",
    re.IGNORECASE,
)
_LEAD = 8
"""Most characters of :data:`_STARTS` before "answer", "a:" or "####"."""

_DOUBTS = frozenset((
    "if", "whether", "what", "suppose", "supposing", "assume", "assuming", "unless", "doubt", "might", "may", "not", "cannot",
    "never", "wrong", "incorrect", "false", "each", "every", "per", "first", "second", "third", "next", "previous", "other",
))  # fmt: skip
"""Words right before "answer" that make it no statement: "if the answer is 5", "I do not think that the answer is 5", "each
correct answer is 3 points"."""

_CLAUSE = re.compile(r"[\n.:;,?!]|\b(?:so|thus|therefore|hence)\b", re.IGNORECASE)

_TAKEN_BACK = re.compile(
    r"\b(?:that|this|it)(?:'s)?\b.*(?:\bwrong|\bincorrect|\bnot (?:right|correct)|n't (?:right|correct))\b"
    r"|\b(?:mistake|oops)\b|^no(?:,|$)|^correction\b|^actually\b|^(?:wait,? )?(?:wrong|incorrect)\b",
    re.IGNORECASE,
)
"""A short sentence after a statement that retracts it. "Wait" alone does not, because models that run on often continue so."""


def stated_answer(text: str) -> Fraction | None:
    """Returns the number that a completion, reasoning and run-on included, states, or ``None``, in time linear in length."""
    own = before_next_question(plain(without_reasoning(text)))
    return next(_stated(own), None)


def read_number(text: str) -> Fraction | None:
    """Returns the number that a whole text is, read like a statement; ``None`` if the text is not one number."""
    if text.isascii() and text.isdecimal():  # most right answers
        return literal(text)
    return StatementReader(tokenize(plain(text[: WINDOW + 1])), whole=len(text) <= WINDOW).value()


def _stated(own: str) -> Iterator[Fraction]:
    starts = list(_STARTS.finditer(own, _first_mark(own)))
    for at, found in enumerate(starts):
        begin = found.end()
        following = starts[at + 1].start() if at + 1 < len(starts) else len(own)
        end = min(begin + WINDOW, following)
        if _is_doubted(own, found.start()):
            continue
        reader = StatementReader(tokenize(own[begin:end]), whole=end == following)
        value = reader.value()
        if value is None or _is_taken_back(own, begin + reader.end):
            continue
        if found["line"] is None or not own[begin + reader.end :].strip(" *_$)]}.\n"):
            yield value


def _first_mark(own: str) -> int:
    """Returns where a search for statements may begin: the pattern tries each place of a text, which took most of its time."""
    if not own.isascii():  # letters of other scripts may equal those of the marks without case
        return 0
    lower = own.lower()
    places = [place for place in map(lower.find, ("answer", "a:", "####")) if place >= 0]
    return max(0, min(places) - _LEAD) if places else len(own)


def _is_doubted(own: str, start: int) -> bool:
    words = _CLAUSE.split(own[max(0, start - 60) : start])[-1].lower().split()[-5:]
    return any(word in _DOUBTS or word.endswith("n't") for word in words)


def _is_taken_back(own: str, end: int) -> bool:
    sentence = re.split(r"[\n.?!]", own[end : end + 120].lstrip(" \n.!*_$)"), maxsplit=1)[0]
    words = sentence.split()
    return len(words) <= 8 and _TAKEN_BACK.search(sentence) is not None
