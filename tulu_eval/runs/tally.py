"""How much of a run is there: what was planned, what the model answered, what failed, in the same words wherever it is said."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Tally:
    """The samples of a run, counted.

    Attributes:
        planned: Items that the run was to answer.
        done: Items that the model answered, however badly.
        failed: Items that the engine failed on; the run's own command tries them again.
        cause: Commonest message of the failures, and the number of failures that have it; empty where none failed or none
            says why.
    """

    planned: int
    done: int
    failed: int
    cause: str = ""

    @property
    def finished(self) -> bool:
        """Whether every planned item was tried."""
        return self.done + self.failed >= self.planned

    @property
    def unfinished(self) -> str:
        """What must be said of a run that was stopped; empty for a finished one."""
        if self.finished:
            return ""
        there = self.done + self.failed
        return (
            f"unfinished: {there} of {self.planned} planned samples are there, those that finished first, "
            "which are the short ones and no random sample"
        )

    @property
    def failures(self) -> str:
        """What must be said of failures; empty where there are none."""
        if not self.failed:
            return ""
        why = f" ({self.cause})" if self.cause else ""
        return f"{self.failed} of {self.planned} failed{why}"
