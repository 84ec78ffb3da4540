"""Measures how the time of a pattern or a parser grows with its text, on the inputs that show growth above linear.

Backtracking is slow where a literal of a pattern lets it start and what follows lets it go on without an end. So the inputs are
every literal of a pattern, repeated, and every literal once with each class of characters repeated behind it.
"""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from re import _constants, _parser
from typing import NamedTuple

CLASSES = (
    " ", "\n", "\u00a0", "a", "A", "é", "1", "١", "1,", "1.", "-", ".", ",", "_", "*", "$", "<", "(", "{", "\\", '"', "/", "=",
    "\0",
)  # fmt: skip
"""Characters of every class that a pattern here tells apart."""

SCREEN = (1_000, 10_000)
"""Sizes at which every input is tried; quadratic growth shows here before it takes minutes."""

SIZES = (100_000, 1_000_000)
"""Sizes at which the slowest inputs are tried."""

TIMES_TEN = 15.0
"""A text ten times as long may take this many times as long."""

FLOOR = 0.002
"""Seconds below which a time is noise."""

SLOWEST = 3
"""Inputs of a pattern or a reader that are tried at :data:`SIZES`."""


class TooSlow(AssertionError):
    """Time grows faster than the text."""


class Input(NamedTuple):
    """A text of any length."""

    prefix: str
    filler: str

    def text(self, size: int) -> str:
        return (self.prefix + self.filler * (size // len(self.filler)))[:size]


def inputs(literals: Iterable[str]) -> Iterator[Input]:
    """Each class alone, each literal repeated, and each literal once before each class repeated."""
    known = sorted(set(literals))
    yield from (Input("", each) for each in (*CLASSES, *known))
    yield from (Input(literal, each) for literal in known for each in CLASSES)


def literals_of(pattern: str, flags: int = 0) -> set[str]:
    """Every run of literal characters in a pattern; what is repeated in between does not end a run."""
    return {run for run in _runs(_parser.parse(pattern, flags)) if run}


def _runs(parsed: Iterable[tuple[object, object]]) -> Iterator[str]:
    run = ""
    for kind, value in parsed:
        if kind is _constants.LITERAL:
            run += chr(value)
            continue
        yield run
        if kind not in (_constants.AT, _constants.MAX_REPEAT, _constants.MIN_REPEAT):
            run = ""
        for inner in _inner(value):
            yield from _runs(inner)
    yield run


def _inner(value: object) -> Iterator[_parser.SubPattern]:
    if isinstance(value, _parser.SubPattern):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _inner(each)


def patterns_in(path: Path) -> list[re.Pattern[str]]:
    """The patterns of text that a module writes out in calls of ``re``."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not (isinstance(node, ast.Call) and node.args and ast.unparse(node.func).startswith("re.")):
            continue
        pattern = node.args[0]
        if isinstance(pattern, ast.Constant) and isinstance(pattern.value, str):
            names = ast.unparse(node).replace("re.IGNORECASE", "re.I")
            flags = (re.I if "re.I" in names else 0) | (re.DOTALL if "re.DOTALL" in names else 0)
            found.append(re.compile(pattern.value, flags))
    return found


def check_pattern(pattern: re.Pattern[str]) -> None:
    """Raises :class:`TooSlow` if finding all matches of a pattern is worse than linear."""
    check(lambda text: sum(1 for _ in pattern.finditer(text)), literals_of(pattern.pattern, pattern.flags))


def screen(call: Callable[[str], object], literals: Iterable[str]) -> dict[Input, float]:
    """Returns the seconds of a call on each of the :func:`inputs` at the larger size of :data:`SCREEN`.

    Raises:
        TooSlow: If one is worse than linear.
    """
    return {each: _compare(call, each, *SCREEN) for each in inputs(literals)}


def check(call: Callable[[str], object], literals: Iterable[str]) -> None:
    """Raises :class:`TooSlow` if a call is worse than linear on any of the :func:`inputs`."""
    times = screen(call, literals)
    for each in sorted(times, key=lambda one: times[one], reverse=True)[:SLOWEST]:
        _compare(call, each, *SIZES)


def _compare(call: Callable[[str], object], each: Input, small: int, large: int) -> float:
    """Returns the seconds at the larger size.

    Raises:
        TooSlow: If they are too many for those at the smaller.
    """
    for _ in range(2):  # a cold cache makes one measurement slow, not two
        before, after = _seconds(call, each.text(small)), _seconds(call, each.text(large))
        if after <= TIMES_TEN * max(before, FLOOR):
            return after
        if after > 4 * TIMES_TEN * max(before, FLOOR):
            break  # no noise
    raise TooSlow(f"{each.prefix!r} + {each.filler!r} * n: {before:.3f} s at {small} characters, {after:.3f} s at {large}")


def _seconds(call: Callable[[str], object], text: str) -> float:
    start = time.thread_time()  # of this thread alone, whatever else the machine does
    call(text)
    return time.thread_time() - start
