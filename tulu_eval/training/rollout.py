"""Rollouts: answers of the policy to prompts, through the same requests and completions that an evaluation has.

An engine is what has :meth:`RolloutEngine.generate`, as every backend does, and takes over the policy's weights when asked. The
one here decodes with the policy itself, so there is nothing to take over. Each row's draws derive from the seed and the row's
key alone, not from its neighbours, its rank or what ran before.
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
    """What rollouts come from."""

    def generate(self, requests: Sequence[Request], decoding: Decoding) -> Iterator[Completion]:
        """Yields one completion a request, in any order; see :meth:`tulu_eval.backends.base.Backend.generate`."""

    def update(self, policy: Policy) -> None:
        """Takes over the policy's weights: the rollouts of a step are those of the policy at its start."""

    def close(self) -> None:
        """Frees what the engine holds."""


class PolicyEngine:
    """Decodes with the policy that is trained, in padded batches; rows that are done leave the batch.

    Args:
        policy: The policy.
        eos_ids: Tokens that end a response.
        rows: How many rows are decoded together at most.
    """

    def __init__(self, policy: Policy, eos_ids: Sequence[int], rows: int) -> None:
        self._policy, self._eos, self._rows = policy, frozenset(eos_ids), rows

    def update(self, policy: Policy) -> None:
        """Has nothing to do: it decodes with the policy itself."""
        self._policy = policy

    def close(self) -> None:
        """Has nothing to do."""

    def generate(self, requests: Sequence[Request], decoding: Decoding) -> Iterator[Completion]:
        """Yields one completion a request.

        Raises:
            EngineError: The policy's logits are not finite.
        """
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
            chosen = choose_tokens(logits, rows, decoding)
            if -1 in chosen:
                raise EngineError(
                    "the policy's logits are not finite; resume from the last checkpoint with a lower learning rate"
                )
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
        tokens: Both; the mask marks the answer, its end token included.
        finished: Whether it ended with an end token. A truncated answer is not given one, since none was sampled.
    """

    tokens: Tokens
    finished: bool

    @classmethod
    def of(cls, prompt: Tokens, completion: Completion) -> Rollout:
        """Returns the rollout that a completion makes."""
        answer = np.array(completion.token_ids, dtype=np.int32)
        mask = np.concatenate([np.zeros(len(prompt), dtype=np.bool_), np.ones(len(answer), dtype=np.bool_)])
        return cls(Tokens(np.concatenate([prompt.ids, answer]), mask), completion.finish_reason == "stop")


def roll_out(
    engine: RolloutEngine, prompts: Sequence[tuple[int, Tokens]], decoding: Decoding, seed: int, step: int
) -> list[Rollout]:
    """Returns the engine's answers to prompts, in their order.

    Args:
        engine: Decodes.
        prompts: Each with its place in the step's whole batch, which its draws derive from.
        decoding: How to draw; its seed is not used.
        seed: The run's.
        step: The step.

    Raises:
        EngineError: A prompt could not be decoded.
    """
    own = {str(derive(seed, step, place, "rollout")): prompt for place, prompt in prompts}
    requests = [Request(key, tuple(prompt.ids.tolist()), "") for key, prompt in own.items()]
    done: dict[str, Rollout] = {}
    for completion in engine.generate(requests, decoding):
        if completion.finish_reason == "error" or not completion.token_ids:
            raise EngineError(f"a prompt of step {step} could not be decoded: {completion.error or 'no token came'}")
        done[completion.key] = Rollout.of(own[completion.key], completion)
    return [done[key] for key in own]
