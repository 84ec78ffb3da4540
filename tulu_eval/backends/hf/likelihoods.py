"""Log-probabilities of continuations on transformers, in batches that fit into memory; a choice is continuations of one token.

With a shared prefix, prompts are grouped by it and :class:`~tulu_eval.backends.hf.branching.BranchScorer` computes every token
once. Otherwise :class:`~tulu_eval.backends.hf.plain.PlainScorer` computes each prompt with each continuation.
"""

from __future__ import annotations

import functools
import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from tulu_eval.backends.base import Usage
from tulu_eval.backends.branches import Branches, BranchScores
from tulu_eval.backends.hf.batching import NO_ROOM, PREFILL_TOKENS, free_memory, guarded
from tulu_eval.backends.hf.branching import BranchScorer
from tulu_eval.backends.hf.plain import PlainScorer
from tulu_eval.backends.hf.prefix_groups import PrefixGroup, prefix_groups
from tulu_eval.errors import EngineError

_LOG = logging.getLogger(__name__)

LOGITS = 1 << 26
"""Largest number of logits in one forward pass, unless one row has more: 256 MiB in float32."""

LEAST_TOKENS = 32
"""Smallest number of tokens in a forward pass of several continuations, after memory ran out."""


class LikelihoodEngine:
    """Scores continuations batch by batch.

    Args:
        shared: Whether it has the shared-prefix attention.
        reach: Largest length of a row in tokens.
        rows: Largest number of prompts in a batch; 0 for no limit but memory's.
        usage: Counter to which tokens and seconds are added with a shared prefix.
    """

    def __init__(self, model: Any, *, shared: bool, reach: int, rows: int, usage: Usage) -> None:
        self._model, self._shared, self._reach, self._usage = model, shared, reach, usage
        self._tokens, self._rows = PREFILL_TOKENS, rows or PREFILL_TOKENS
        self._positions = max(1, LOGITS // model.get_input_embeddings().weight.shape[0])
        self._scorer: BranchScorer | PlainScorer | None = None

    def run(self, asked: Sequence[Branches]) -> Iterator[BranchScores]:
        """Yields one answer per prompt, batch by batch.

        Raises:
            EngineError: If memory does not suffice for one row, or the engine fails.
        """
        prompts = [one.prompt for one in asked]
        groups = prefix_groups(prompts) if self._shared else [PrefixGroup(0, tuple(range(len(asked))))]
        for group in groups:
            self._scorer = None
            waiting = deque(sorted((asked[at] for at in group.members), key=lambda one: -len(one.prompt)))
            while waiting:
                batch = self._batch(waiting, group.prefix)
                done = guarded(functools.partial(self._score, batch, group.prefix))
                if done is None:
                    self._halve(len(batch))
                    continue
                for _ in batch:
                    waiting.popleft()
                yield from done

    def _batch(self, waiting: Sequence[Branches], prefix: int) -> list[Branches]:
        """Returns the first waiting prompts, as many as one batch may have."""
        batch: list[Branches] = []
        tokens = 0
        for one in waiting:
            tokens += len(one.prompt) - prefix
            if batch and (tokens > self._tokens or len(batch) >= min(self._rows, self._positions)):
                break
            batch.append(one)
        return batch

    def _halve(self, prompts: int) -> None:
        """Halves a batch of so many prompts after memory ran out; raises EngineError if it is already the smallest."""
        if prompts == 1 and self._tokens <= LEAST_TOKENS:
            raise EngineError(NO_ROOM)
        self._rows, self._tokens = max(1, prompts // 2), max(LEAST_TOKENS, self._tokens // 2)
        self._scorer = None
        _LOG.warning("out of memory: continuing with %d prompts and %d tokens at a time", self._rows, self._tokens)
        free_memory()

    def _score(self, batch: Sequence[Branches], prefix: int) -> list[BranchScores]:
        began = time.perf_counter()
        if self._scorer is None:
            passes = min(self._tokens, self._positions)
            if self._shared:
                self._scorer = BranchScorer(self._model, batch[0].prompt[:prefix], self._reach, passes)
                self._usage.prefill_tokens += prefix
            else:
                self._scorer = PlainScorer(self._model, self._tokens, self._positions)
        found = self._scorer.score([one.prompt[prefix:] for one in batch], [one.texts for one in batch])
        seconds = time.perf_counter() - began
        for one in batch:
            self._usage.prefill_tokens += len(one.prompt) - prefix + sum(len(text) - 1 for text in one.texts)
        self._usage.prefill_seconds += seconds
        return [BranchScores.of(one.key, logprobs, seconds) for one, logprobs in zip(batch, found, strict=True)]
