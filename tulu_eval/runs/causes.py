"""What failed samples have in common: their commonest cause, and how often it was that."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable

COMPARED = 200
"""Characters of a cause that are compared; what differs further on is a detail."""

_LONGEST_NAME = 7
"""Characters. A longer word with a digit in it is an id of a request, of a process or of a machine, not the name of a field."""

_WORD = re.compile(r"(HTTP |error )?(\w+(?:[-.]\w+)*)", re.ASCII)


@dataclasses.dataclass(frozen=True, slots=True)
class Cause:
    """A cause of failures.

    Attributes:
        text: One line, as the first sample that it met says it.
        count: Samples that it met.
        failed: All samples that failed.
    """

    text: str
    count: int
    failed: int

    def __str__(self) -> str:
        return f"{self.text} ({self.count} of {self.failed})"


def commonest(errors: Iterable[str]) -> Cause | None:
    """Returns the commonest of the causes in :attr:`tulu_eval.records.Completion.error`; None where nothing failed.

    Causes that differ in nothing but ids, ports, times and counts are one. Of equally common ones the first counts.
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
    """Returns a cause with ``#`` for each number and each id in it, HTTP statuses left as they are."""
    return _WORD.sub(_named, " ".join(error[:COMPARED].split()))


def _named(found: re.Match[str]) -> str:
    status, word = found[1] or "", found[2]
    if status and re.fullmatch("[1-5][0-9][0-9]", word):
        return found[0]
    plain = re.sub("[-.]", "", word)
    number = plain.isdigit() or plain[:-1].isdigit()
    return status + ("#" if number or (len(word) > _LONGEST_NAME and any(map(str.isdigit, word))) else word)
