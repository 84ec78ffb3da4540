"""Benchmarks whose answers are programs: an answer is right if its program runs to its end in a sandbox."""

from __future__ import annotations

import abc
import re
from collections.abc import Iterable, Iterator
from typing import ClassVar

from tulu_eval.benchmarks.base import Benchmark
from tulu_eval.records import Grade
from tulu_eval.sandbox import Execution, Limits, Outcome, run_programs

PACKAGES = ("numpy",)
"""What open-instruct's environment had and a program may import beside the standard library."""


class ExecutedBenchmark(Benchmark):
    """A benchmark of programs.

    Attributes:
        limits: Limits of one program.
    """

    executes: ClassVar[bool] = True
    limits: ClassVar[Limits]

    @abc.abstractmethod
    def program(self, target: str, text: str) -> str:
        """Returns the program that tests an answer.

        Raises:
            DataError: If the target is not one of this benchmark's.
        """

    def grade(self, target: str, text: str) -> tuple[Grade, ...]:
        """Returns the grades of one answer; runs its program."""
        (grades,) = self.grade_all([(target, text)])
        return grades

    def grade_failed(self, target: str) -> tuple[Grade, ...]:
        """Returns the grades of an answer that is not there; runs nothing."""
        return tuple(Grade(scorer, "", False, 0.0) for scorer in self.scorers)

    def grade_all(
        self,
        answers: Iterable[tuple[str, str]],
        execution: Execution = Execution(),  # noqa: B008 - frozen
    ) -> Iterator[tuple[Grade, ...]]:
        """Yields the grades of each answer; runs their programs at one time on all cores."""
        programs = (self.program(target, text) for target, text in answers)
        for outcome in run_programs(programs, self.limits, execution, PACKAGES):
            right = float(outcome.ending == "passed")
            yield tuple(Grade(scorer, answer_of(outcome), True, right) for scorer in self.scorers)


def answer_of(outcome: Outcome) -> str:
    """Returns the ending with its reason, without addresses of objects, which are others each time."""
    return outcome.ending + (f": {re.sub(r'0x[0-9a-f]+', '0x', outcome.why)}" if outcome.why else "")
