"""What a user can get wrong, each in one line.

Every error that a user can cause or mend is a :class:`UserError`: the command line prints its message on stderr
and ends with its exit code, without a traceback (``--debug`` shows it). Everything else is a bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def printable(text: str) -> str:
    """Returns a line that is safe on a terminal: characters that could steer it, or not be written at all, become ``?``."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def printable_lines(text: str) -> str:
    """Returns a text of several lines, each :func:`printable`."""
    return "\n".join(map(printable, text.split("\n")))


class UserError(Exception):
    """A mistake or a missing thing that the user can mend.

    Args:
        message: One line that says what is wrong and, where it is not plain, what to do.

    Attributes:
        command_line: The message as the command line prints it. :mod:`tulu_eval.api` gives a Python caller the same with the
            names of options turned into those of parameters.
    """

    exit_code = 2

    def __init__(self, message: str) -> None:
        self.command_line = printable(" ".join(message.split()))
        super().__init__(self.command_line)


class UnknownName(UserError):
    """A name that is not among the known ones, with the nearest known names.

    Args:
        kind: What the name names, e.g. ``"benchmark"``.
        name: The name as given.
        known: All names that would have been right.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.name = name
        self.known = tuple(known)
        super().__init__(f"unknown {kind} {name!r}.{suggest(name, self.known)}")


class DataError(UserError):
    """A data file that cannot be read as what it should be.

    Args:
        path: The file.
        message: What is wrong there.
        line: One-based line number, where there is one.
    """

    def __init__(self, path: object, message: str, line: int | None = None) -> None:
        where = f"{path}:{line}" if line is not None else f"{path}"
        super().__init__(f"{where}: {message}")


class PreflightError(UserError):
    """Something a run needs is missing; found before anything heavy was loaded."""


class EngineError(UserError):
    """The engine failed while it generated. Finished samples are in the ledger, so the run can be resumed."""


def suggest(name: str, known: Iterable[str], limit: int = 3) -> str:
    """Returns `` Did you mean 'a' or 'b'?`` or, where nothing is near, `` Known: a, b, ...``; empty if nothing is known."""
    options = sorted(set(known))
    hint = near(name, options, limit)
    if hint or not options:
        return hint
    shown = ", ".join(options[:12])
    return f" Known: {shown}{', ...' if len(options) > 12 else ''}."


def near(name: str, known: Iterable[str], limit: int = 3) -> str:
    """Returns `` Did you mean 'a' or 'b'?``; empty where nothing is near."""
    lowered = {option.lower(): option for option in sorted(set(known), reverse=True)}
    matches = difflib.get_close_matches(name.lower(), lowered, n=limit, cutoff=0.6)
    return f" Did you mean {' or '.join(repr(lowered[match]) for match in matches)}?" if matches else ""
