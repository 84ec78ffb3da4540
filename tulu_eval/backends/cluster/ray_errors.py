"""What Ray says of an engine's end, in one line."""

from __future__ import annotations

import re

from tulu_eval.backends.growing import one_line

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def cause_of(error: Exception) -> str:
    """Returns one line about an error of Ray's, of which some fill a page: an engine's own, or how its process ended."""
    own = getattr(error, "cause", None)
    if isinstance(own, Exception):
        return one_line(own)[:300]
    if "creation task" in str(error):  # with a traceback, which ends with what was raised
        return str(error).strip().rpartition("\n")[2].strip()[:300]
    text = " ".join(_COLOURS.sub("", str(error)).split())
    for mark in ("Worker exit detail: ", "The actor is dead because "):
        if mark in text:
            return text.split(mark, 1)[1].split(". ")[0][:300]
    return (text.split(". ")[0] or type(error).__name__)[:300]


def node_died(error: Exception) -> bool:
    """Whether Ray says that an engine died with its node; it has no other word for that than its message (2.60)."""
    return "its node has died" in str(error)
