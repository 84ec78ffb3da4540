"""Rollouts: answers of the policy to prompts, made from the same requests and completions as in an evaluation.

An engine generates like a backend, and gets the policy's weights before each step. The engine of this module decodes with the
policy itself, so it needs no copy. The draws of each row depend only on the seed and the row's key.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from tulu_eval.backends.growing import GrowingRow
from tulu_eval.backends.hf.batching import choose_tokens
from tulu_eval.errors import EngineError
from tulu_eval.records import Completion, Decoding, FinishReason, Request
from tulu_eval.training.networks import Policy
from tulu_eval.training.parallel import whole
from tulu_eval.training.randomness import derive
from tulu_eval.training.text import Tokens


class RolloutEngine(Protocol):
    """Generates rollouts."""

    def generate(self, requests: Sequence[Request], decoding: Decoding) -> Iterator[Completion]:
        """Yields one completion per request, in any order; see :meth:`tulu_eval.backends.base.Backend.generate`."""

    def update(self, policy: Policy) -> int:
        """Puts the policy's weights into the engine, before each step; returns the bytes that moved to this rank's engine."""

    def rest(self) -> None:
        """Frees what the engine needs only to generate, until the next update."""

    def close(self) -> None:
        """Frees the engine's resources."""


class PolicyEngine:
    """Decodes with the policy in training, in padded batches; finished rows leave the batch.

    Args:
        eos_ids: Tokens that end a response.
        rows: Largest number of rows in a batch.
        vocabulary: Number of the token ids that may be drawn, the smallest ones; ``None`` for all.
        advice: What to do if the policy's logits are not finite.
    """

    def __init__(
        self, policy: Policy, eos_ids: Sequence[int], rows: int, vocabulary: int | None = None, advice: str = ""
    ) -> None:
        self._policy, self._eos, self._rows = policy, frozenset(eos_ids), rows
        self._vocabulary, self._advice = vocabulary, advice

    def update(self, policy: Policy) -> int:
        """Keeps the policy, whose weights it shares; nothing moves."""
        self._policy = policy
        return 0

    def rest(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""

    def generate(self, requests: Sequence[Request], decoding: Decoding) -> Iterator[Completion]:
        """Yields one completion per request; raises EngineError if the policy's logits are not finite."""
        waiting = sorted(requests, key=lambda request: len(request.token_ids))
        with torch.no_grad(), whole(self._policy):
            for start in range(0, len(waiting), self._rows):
                yield from self._decode(waiting[start : start + self._rows], decoding)

    def _decode(self, requests: Sequence[Request], decoding: Decoding) -> Iterator[Completion]:
        from transformers import DynamicCache

        device = next(self._policy.parameters()).device
        rows = [GrowingRow.begin(request, decoding) for request in requests]
        ids, attention = _left_padded(requests, device)
        cache: Any = DynamicCache()
        positions = (attention.cumsum(1) - 1).clamp(min=0)
        while True:
            mask = None if bool(attention.all()) else attention
            logits = self._policy.next_logits(ids, mask, positions, cache)
            chosen = choose_tokens(logits[:, : self._vocabulary], rows, decoding)
            if -1 in chosen:
                raise EngineError("the policy's logits are not finite" + (self._advice and f"; {self._advice}"))
            going: list[int] = []
            for index, (row, token) in enumerate(zip(rows, chosen, strict=True)):
                row.tokens.append(token)
                reason: FinishReason = "stop" if token in self._eos else "length"
                if reason == "stop" or len(row.tokens) == decoding.max_new_tokens:
                    yield Completion(row.request.key, "", tuple(row.tokens), reason, time.perf_counter() - row.started)
                else:
                    going.append(index)
            if not going:
                return
            if len(going) < len(rows):
                keep = torch.tensor(going, dtype=torch.int64, device=device)
                rows = [rows[index] for index in going]
                cache.batch_select_indices(keep)
                attention, positions = attention[keep], positions[keep]
            ids = torch.tensor([[row.tokens[-1]] for row in rows], device=device)
            attention = torch.cat([attention, attention.new_ones(len(rows), 1)], dim=1)
            positions = positions[:, -1:] + 1


def _left_padded(requests: Sequence[Request], device: torch.device) -> tuple[Tensor, Tensor]:
    longest = max(len(request.token_ids) for request in requests)
    ids = torch.zeros(len(requests), longest, dtype=torch.int64)
    attention = torch.zeros_like(ids)
    for index, request in enumerate(requests):
        ids[index, longest - len(request.token_ids) :] = torch.tensor(request.token_ids)
        attention[index, longest - len(request.token_ids) :] = 1
    return ids.to(device), attention.to(device)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Rollout:
    """A prompt and the policy's answer to it.

    Attributes:
        tokens: Prompt and answer; the mask marks the answer, including its end token.
        finished: Whether the answer ends with an end token; a truncated answer does not get one.
    """

    tokens: Tokens
    finished: bool

    @classmethod
    def of(cls, prompt: Tokens, completion: Completion) -> Rollout:
        """Returns the rollout of a prompt and its completion."""
        answer = np.array(completion.token_ids, dtype=np.int32)
        mask = np.concatenate([np.zeros(len(prompt), dtype=np.bool_), np.ones(len(answer), dtype=np.bool_)])
        return cls(Tokens(np.concatenate([prompt.ids, answer]), mask, prompt.target), completion.finish_reason == "stop")


def roll_out(
    engine: RolloutEngine, prompts: Sequence[tuple[int, Tokens]], decoding: Decoding, seed: int, step: int
) -> list[Rollout]:
    """Returns the engine's answers to prompts, in the order of the prompts.

    Each prompt has its place in the step's whole batch, on which its draws depend; the seed of ``decoding`` is ignored.

    Raises:
        EngineError: If a prompt could not be decoded.
    """
    own = {str(derive(seed, step, place, "rollout")): prompt for place, prompt in prompts}
    requests = [Request(key, tuple(prompt.ids.tolist()), "") for key, prompt in own.items()]
    done: dict[str, Rollout] = {}
    for completion in engine.generate(requests, decoding):
        if completion.finish_reason == "error" or not completion.token_ids:
            raise EngineError(f"a prompt of step {step} could not be decoded: {completion.error or 'no token came'}")
        done[completion.key] = Rollout.of(own[completion.key], completion)
    return [done[key] for key in own]
