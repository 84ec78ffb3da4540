"""Grades the samples of a run as its protocol says: cuts a block of reasoning, asks the benchmark, finds the class.

Grades that come from running programs are made once, by ``run``, ``import`` and ``score``; every other verb reads them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Self

from tulu_eval.benchmarks.base import Benchmark, Reasoning, classify
from tulu_eval.benchmarks.likelihood import LikelihoodBenchmark
from tulu_eval.records import Grade
from tulu_eval.sandbox import Execution
from tulu_eval.store.sample_line import Sample
from tulu_eval.store.setup_schema import Setup


@dataclasses.dataclass(frozen=True, slots=True)
class Grader:
    """Grades samples with the installed benchmark.

    Attributes:
        benchmark: Benchmark under the run's protocol.
        reasoning: Tags of the block to cut from answers; ``None`` for none.
        opened: Whether the template opens such a block, so that answers start inside it.
    """

    benchmark: Benchmark
    reasoning: Reasoning | None = None
    opened: bool = False
    execution: Execution = dataclasses.field(default_factory=Execution)

    @classmethod
    def of(cls, benchmark: Benchmark, setup: Setup, execution: Execution = Execution()) -> Self:  # noqa: B008 - frozen
        """Returns the grader of a plan's or a manifest's samples."""
        tags = setup.protocol.reasoning
        return cls(benchmark, Reasoning(*tags) if tags else None, bool(setup.template.reasoning), execution)

    def grade(self, sample: Sample) -> Sample:
        """Returns a sample with its grades; one on which the engine failed, or whose reasoning has no end, is wrong.

        An answer that is graded by running it stays without grades; see :meth:`grade_all`.
        """
        text = self.text(sample)
        if text is None:
            return self._graded(sample, self.benchmark.grade_failed(sample.target))
        if self.benchmark.executes:
            return self._graded(sample, ())
        if isinstance(self.benchmark, LikelihoodBenchmark):
            return self._graded(sample, self.benchmark.grade_likelihoods(sample.target, sample.completion.likelihoods))
        return self._graded(sample, self.benchmark.grade(sample.target, text))

    def grade_all(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        """Yields samples with their grades in order; runs the programs of a benchmark that executes, many at one time."""
        if not self.benchmark.executes:
            yield from map(self.grade, samples)
            return
        listed = list(samples)
        texts = [self.text(sample) for sample in listed]
        answers = [(sample.target, text) for sample, text in zip(listed, texts, strict=True) if text is not None]
        found = self.benchmark.grade_all(answers, self.execution)
        for sample, text in zip(listed, texts, strict=True):
            yield self.grade(sample) if text is None else self._graded(sample, next(found))

    def text(self, sample: Sample) -> str | None:
        """Returns the text to grade; ``None`` if the engine failed or the reasoning has no end."""
        if sample.completion.finish_reason == "error":
            return None
        text = sample.completion.text
        return self.reasoning.cut(text, opened=self.opened) if self.reasoning else text

    def _graded(self, sample: Sample, grades: tuple[Grade, ...]) -> Sample:
        reasoned = self.text(sample) is not None
        return dataclasses.replace(sample, grades=grades, status=classify(sample.completion, grades, reasoned=reasoned))
