"""Benchmarks whose answers judges label: what the judges are asked, and the numbers that follow from what they say.

A run grades its answers by a rule, or not at all; ``tulu-eval judge`` asks the judges afterwards.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import ClassVar

from tulu_eval.benchmarks.base import Benchmark
from tulu_eval.records import Grade

Values = Mapping[str, float]
"""What judges say of one answer, by name, each 0 to 1; empty if a judge's reply has none of its words."""


class LabelledBenchmark(Benchmark):
    """A benchmark with the scorers of its judges.

    Attributes:
        recipe: Name of the published question to the judges.
        judges: Model of each published judge by its role. A judge of the role ``chat`` replies with words, one of the role
            ``classifier`` gives a text one of two labels; any other role is a language model that says how likely `` yes`` is
            after a prompt.
        by: End of the metrics' names under the published judges; under others it is ``_by_other_judge``.
    """

    recipe: ClassVar[str]
    judges: ClassVar[Mapping[str, str]]
    by: ClassVar[str]

    @abc.abstractmethod
    def ask(self, role: str, question: str, answer: str) -> str:
        """Returns the text that a judge gets about an answer to an item's question."""

    def read(self, reply: str) -> Values:
        """Returns the values of a chat judge's reply; empty if it has none, and for benchmarks without such a judge."""
        return {}

    def answer(self, text: str, plain: bool) -> str:
        """Returns the part of an answer that judges get; ``plain`` tells whether the model has no chat template."""
        return text

    @abc.abstractmethod
    def grade_labels(self, target: str, values: Values | None) -> tuple[Grade, ...]:
        """Returns one grade per scorer; ``None`` if a judge failed: all wrong, and with the largest weights."""


class JudgedBenchmark(Benchmark):
    """A benchmark whose answers judges can label."""

    @abc.abstractmethod
    def labelled(self) -> LabelledBenchmark:
        """Returns the benchmark with the scorers of its judges."""
