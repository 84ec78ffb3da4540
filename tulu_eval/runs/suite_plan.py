"""What a suite of benchmarks would do, and what cannot be measured here."""

from __future__ import annotations

import dataclasses

from tulu_eval.runs.run_plan import Plan


@dataclasses.dataclass(frozen=True, slots=True)
class Unmeasured:
    """A benchmark of a suite that has no number.

    Attributes:
        protocol: Empty for the benchmark's default.
        why: One line, in the words of the command line.
    """

    benchmark: str
    protocol: str
    why: str


@dataclasses.dataclass(frozen=True, slots=True)
class SuitePlan:
    """What a suite would do; no weights are loaded.

    Attributes:
        unmeasured: Benchmarks that cannot be measured here.
    """

    suite: str
    plans: tuple[Plan, ...]
    unmeasured: tuple[Unmeasured, ...]
