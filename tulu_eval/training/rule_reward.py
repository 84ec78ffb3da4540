"""A benchmark's own scorer as a reward: ``rule:gsm8k``, or ``rule:gsm8k:stated-answer`` for another of its scorers.

The prompts are the benchmark's, as in an evaluation, made from its training split or from the rows of ``--data``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from tulu_eval.benchmarks.base import Benchmark
from tulu_eval.benchmarks.labelled import JudgedBenchmark
from tulu_eval.errors import DataError, PreflightError, UnknownName
from tulu_eval.models.tokenizer import PromptWriter
from tulu_eval.runs import catalog
from tulu_eval.training.rewards import PromptSettings, Reward, RewardSettings, texts
from tulu_eval.training.rows.data import TrainingRows
from tulu_eval.training.text import Tokens

if TYPE_CHECKING:
    from torch import Tensor

    from tulu_eval.training.networks import Batch
    from tulu_eval.training.rollout import Rollout


class RuleReward(Reward):
    """Grades answers as the benchmark does.

    Args:
        scorer: Place of the scorer among the benchmark's.
        opened: Whether the template opens a block of reasoning, so that answers start inside it.
    """

    def __init__(self, benchmark: Benchmark, scorer: int, tokenizer: Any, *, opened: bool) -> None:
        self._benchmark, self._scorer, self._tokenizer = benchmark, scorer, tokenizer
        self._reasoning, self._opened = benchmark.protocol(None).reasoning, opened

    @classmethod
    def check(cls, argument: str, url: str) -> str:
        """Returns the benchmark's version; raises UserError if it is unknown, or not graded by one text per item."""
        benchmark, _ = _named(argument)
        if benchmark.kind != "generate" or isinstance(benchmark, JudgedBenchmark):
            raise PreflightError(f"--reward rule:{argument}: {benchmark.name} is not graded by the text of an answer alone")
        return f"version {benchmark.version}"

    @classmethod
    def make(cls, settings: RewardSettings) -> Self:
        """Returns the reward of the benchmark that the argument names."""
        benchmark, scorer = _named(settings.argument)
        writer = PromptWriter(settings.tokenizer, "the policy", tulu=True)
        return cls(benchmark, scorer, settings.tokenizer, opened=bool(writer.template.reasoning))

    @classmethod
    def prompts(cls, argument: str, settings: PromptSettings) -> TrainingRows[Tokens]:
        """Returns the prompts of the benchmark's training items, with their right answers; a template writes no day.

        Raises:
            UserError: If there are none, or one has no right answer.
        """
        benchmark, _ = _named(argument)
        source = settings.data or f"training split of {benchmark.name}"
        items = benchmark.training_items(settings.data)
        if odd := next((item for item in items if not item.target), None):
            raise DataError(source, f"item {odd.id} has no right answer, so no rule can grade it")
        writer = PromptWriter(settings.tokenizer, "the policy", tulu=True)
        if not settings.bos and settings.tokenizer.bos_token_id is not None:
            writer = writer.written("no-bos")
        names = [f"item {item.id}" for item in items]
        found = writer.encode(writer.texts([benchmark.render(item) for item in items], names), names)
        kept, digest = [], hashlib.sha256()
        for item, ids in zip(items, found, strict=True):
            if len(ids) > settings.max_length:
                continue
            if max(ids) >= settings.vocabulary:
                raise DataError(
                    source, f"item {item.id}: token {max(ids)} is outside a model's vocabulary of {settings.vocabulary}"
                )
            row = Tokens(np.array(ids, dtype=np.int32), np.zeros(len(ids), dtype=np.bool_), item.target)
            digest.update(len(row).to_bytes(4, "little") + row.ids.tobytes() + f"{item.target}\0".encode())
            kept.append(row)
        if not kept:
            raise DataError(source, f"all {len(items)} prompts have more than max_length = {settings.max_length} tokens")
        dropped = {f"over {settings.max_length} tokens": len(items) - len(kept)} if len(kept) < len(items) else {}
        return TrainingRows(kept, dropped, digest.hexdigest())

    def score(self, rollouts: Sequence[Rollout], batch: Batch) -> Tensor:
        """Returns the scorer's score of each answer [rows]; that of an answer whose reasoning has no end is 0."""
        answers = [self._cut(texts(rollout, self._tokenizer)[1]) for rollout in rollouts]
        asked = [(rollout.tokens.target, answer or "") for rollout, answer in zip(rollouts, answers, strict=True)]
        found = [grades[self._scorer].score for grades in self._benchmark.grade_all(asked)]
        scores = [0.0 if answer is None else score for answer, score in zip(answers, found, strict=True)]
        import torch

        return torch.tensor(scores, device=batch.ids.device)

    def _cut(self, answer: str) -> str | None:
        return self._reasoning.cut(answer, opened=self._opened) if self._reasoning else answer


def _named(argument: str) -> tuple[Benchmark, int]:
    """Returns the benchmark of ``NAME`` or ``NAME:SCORER``, and the place of the scorer among its own."""
    name, _, scorer = argument.partition(":")
    if not name:
        raise PreflightError("--reward rule needs a benchmark, such as rule:gsm8k")
    benchmark = catalog.benchmark(name)
    benchmark = benchmark.under(benchmark.protocol(None).name)
    if scorer and scorer not in benchmark.scorers:
        raise UnknownName(f"scorer of {name}", scorer, benchmark.scorers)
    return benchmark, benchmark.scorers.index(scorer) if scorer else 0
