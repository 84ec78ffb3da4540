"""Finds the most common cause of failed samples, and the number of samples that it made fail."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable

COMPARED = 200
"""Number of characters of a cause that are compared; later ones are details."""

_LONGEST_NAME = 7
"""Largest number of characters of a field's name that has a digit; a longer such word is the id of a request or a process."""

_WORD = re.compile(r"(HTTP |error )?(\w+(?:[-.]\w+)*)", re.ASCII)


@dataclasses.dataclass(frozen=True, slots=True)
class Cause:
    """A cause of failures.

    Attributes:
        text: Error of the first sample that failed for this cause; one line.
        count: Number of samples that failed for this cause.
        failed: Number of samples that failed for any cause.
    """

    text: str
    count: int
    failed: int

    def __str__(self) -> str:
        return f"{self.text} ({self.count} of {self.failed})"


def commonest(errors: Iterable[str]) -> Cause | None:
    """Returns the most common cause of some errors (:attr:`tulu_eval.records.Completion.error`), ``None`` if there are none.

    Errors that differ only in ids, ports, times and counts have one cause. If two causes are equally common, it returns the one
    that came first.
    """
    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    for error in errors:
        name = kind_of(error)
        counts[name] += 1
        first.setdefault(name, error)
    if not counts:
        return None
    (name, count), *_ = counts.most_common(1)
    return Cause(first[name], count, counts.total())


def kind_of(error: str) -> str:
    """Returns an error with ``#`` in place of each number and each id; HTTP statuses stay."""
    return _WORD.sub(_named, " ".join(error[:COMPARED].split()))


def _named(found: re.Match[str]) -> str:
    status, word = found[1] or "", found[2]
    if status and re.fullmatch("[1-5][0-9][0-9]", word):
        return found[0]
    plain = re.sub("[-.]", "", word)
    number = plain.isdigit() or plain[:-1].isdigit()
    return status + ("#" if number or (len(word) > _LONGEST_NAME and any(map(str.isdigit, word))) else word)
