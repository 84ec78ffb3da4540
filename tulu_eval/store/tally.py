"""Counts the planned, answered and failed items of a run, and words the counts for all verbs."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Tally:
    """Numbers of a run's items.

    Attributes:
        planned: Number of items that the run asks for.
        done: Number of items that the model answered, rightly or wrongly.
        failed: Number of items on which the engine failed; the run's own command tries them again.
        cause: Most common error of the failures, and the number of failures with it; empty without failures or errors.
    """

    planned: int
    done: int
    failed: int
    cause: str = ""

    @property
    def finished(self) -> bool:
        """Whether the run tried all planned items."""
        return self.done + self.failed >= self.planned

    @property
    def unfinished(self) -> str:
        """Words that go with the numbers of a stopped run; empty for a finished one."""
        if self.finished:
            return ""
        there = self.done + self.failed
        return (
            f"unfinished: {there} of {self.planned} planned samples are there, the short ones, which finish first, "
            "or the few that 'explain' tried; they stand for no others"
        )

    @property
    def failures(self) -> str:
        """Words that go with the numbers of a run with failures; empty without failures."""
        if not self.failed:
            return ""
        why = f" ({self.cause})" if self.cause else ""
        return f"{self.failed} of {self.planned} failed{why}"
