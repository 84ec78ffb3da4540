"""Errors that a user can cause or correct, each with a one-line message.

Every such error is a :class:`UserError`: the command line prints its message on stderr and exits with its exit code, without a
traceback (``--debug`` shows it). Any other error is a bug and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

MOST_KNOWN = 24
"""Number of known names that an error lists where none is near: all verbs, all benchmarks, a part of the models."""


def printable(text: str) -> str:
    """Returns a line that is safe on a terminal: ``?`` replaces control characters and characters that cannot be written."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def printable_lines(text: str) -> str:
    """Returns a text of several lines after applying :func:`printable` to each."""
    return "\n".join(map(printable, text.split("\n")))


class UserError(Exception):
    """An error that the user can correct.

    Args:
        message: One line that says what is wrong and, if that is not obvious, what to do.

    Attributes:
        command_line: The message as the command line prints it. :mod:`tulu_eval.api` gives a Python caller the same with the
            names of options turned into those of parameters.
    """

    exit_code = 2

    def __init__(self, message: str) -> None:
        self.command_line = printable(" ".join(message.split()))
        super().__init__(self.command_line)


class UnknownName(UserError):
    """A name that is not known; the message gives the nearest known names.

    Args:
        kind: Kind of the named thing, e.g. ``"benchmark"``.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.name = name
        self.known = tuple(known)
        super().__init__(f"unknown {kind} {name!r}.{suggest(name, self.known)}")


class DataError(UserError):
    """A data file that is not of the expected form.

    Args:
        message: The error; the path precedes it.
        line: One-based line number; ``None`` for the whole file.

    Attributes:
        message: The error without the place.
    """

    def __init__(self, path: object, message: str, line: int | None = None) -> None:
        where = f"{path}:{line}" if line is not None else f"{path}"
        self.message = message
        super().__init__(f"{where}: {message}")


class PreflightError(UserError):
    """A run lacks something that it needs; raised before anything heavy is loaded."""


class EngineError(UserError):
    """The engine failed during generation. Finished samples are in the ledger, so the run can resume."""


def counted(number: int, noun: str) -> str:
    """Returns a number with its noun, in the plural unless it is one."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def few(things: Sequence[object], limit: int = 5) -> str:
    """Returns the first things, separated by commas, and the number of others: ``a, b and 3 more``."""
    more = f" and {len(things) - limit:,} more" if len(things) > limit else ""
    return ", ".join(map(str, things[:limit])) + more


def suggest(name: str, known: Iterable[str], limit: int = 3) -> str:
    """Returns `` Did you mean 'a' or 'b'?``; if no name is near, `` Known: a, b, ...``; empty if there are no known names."""
    options = sorted(set(known))
    hint = near(name, options, limit)
    if hint or not options:
        return hint
    return f" Known: {few(options, MOST_KNOWN)}."


def near(name: str, known: Iterable[str], limit: int = 3) -> str:
    """Returns `` Did you mean 'a' or 'b'?``; empty if no name is near."""
    import difflib

    lowered = {option.lower(): option for option in sorted(set(known), reverse=True)}
    matches = difflib.get_close_matches(name.lower(), lowered, n=limit, cutoff=0.6)
    return f" Did you mean {' or '.join(repr(lowered[match]) for match in matches)}?" if matches else ""
