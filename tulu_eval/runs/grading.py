"""Grades the samples of a run as its protocol says: cuts a block of reasoning, asks the benchmark, finds the class."""

from __future__ import annotations

import dataclasses
from typing import Self

from tulu_eval.benchmarks.base import Benchmark, Reasoning, classify
from tulu_eval.benchmarks.likelihood import LikelihoodBenchmark
from tulu_eval.runs.manifest_schema import Setup
from tulu_eval.runs.sample_line import Sample


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

    @classmethod
    def of(cls, benchmark: Benchmark, setup: Setup) -> Self:
        """Returns the grader of a plan's or a manifest's samples."""
        tags = setup.protocol.reasoning
        return cls(benchmark, Reasoning(*tags) if tags else None, bool(setup.template.reasoning))

    def grade(self, sample: Sample) -> Sample:
        """Returns a sample with its grades; one on which the engine failed, or whose reasoning has no end, is wrong."""
        completion = sample.completion
        failed = completion.finish_reason == "error"
        text = self.reasoning.cut(completion.text, opened=self.opened) if self.reasoning else completion.text
        if failed or text is None:
            grades = self.benchmark.grade_failed(sample.target)
        elif isinstance(self.benchmark, LikelihoodBenchmark):
            grades = self.benchmark.grade_likelihoods(sample.target, completion.likelihoods)
        else:
            grades = self.benchmark.grade(sample.target, text)
        return dataclasses.replace(sample, grades=grades, status=classify(completion, grades, reasoned=text is not None))
