"""What Ray says of an engine's end, in one line."""

from __future__ import annotations

import re

from tulu_eval.backends.cluster.node_messages import shown
from tulu_eval.backends.growing import one_line

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def cause_of(error: BaseException) -> str:
    """Returns one safe line about an error of Ray's: an engine's own, or how its process ended.

    Some fill a page. An engine's own is of any class, whose words may be missing, endless or raise.
    """
    try:
        return shown(_told(error)) or type(error).__name__
    except Exception:  # of a class that a node has sent
        return shown(type(error).__name__)


def _told(error: BaseException) -> str:
    own = getattr(error, "cause", None)
    if isinstance(own, BaseException):
        return one_line(own)
    if "creation task" in str(error):  # with a traceback, which ends with what was raised
        return str(error).strip().rpartition("\n")[2].strip()
    text = " ".join(_COLOURS.sub("", str(error)).split())
    for mark in ("Worker exit detail: ", "The actor is dead because "):
        if mark in text:
            return text.split(mark, 1)[1].split(". ")[0]
    return text.split(". ")[0]


def node_died(error: BaseException) -> bool:
    """Whether Ray says that an engine died with its node; it has no other word for that than its message (2.60)."""
    return "its node has died" in str(error)
