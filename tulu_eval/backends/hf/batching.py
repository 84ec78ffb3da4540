"""Continuous batching: longest prompts first, waiting rows replace finished rows, half the batch after out-of-memory.

This module handles rows and tokens; :class:`~tulu_eval.backends.hf.shared_prefix.SharedPrefixDecoder` computes the logits.
"""

from __future__ import annotations

import gc
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from tulu_eval.backends.base import Usage
from tulu_eval.backends.growing import Finisher, GrowingRow, one_line
from tulu_eval.backends.hf.shared_prefix import SharedPrefixDecoder
from tulu_eval.errors import EngineError
from tulu_eval.records import Completion, Decoding, Request

_LOG = logging.getLogger(__name__)

NO_ROOM = "out of memory with a single row; use a device with more memory or a smaller dtype"
T = TypeVar("T")

PREFILL_TOKENS = 4096
"""Largest number of prompt tokens in one forward pass."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out on any device; the CPU allocator's error only differs by its words."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)


def guarded(work: Callable[[], T]) -> T | None:
    """Returns the result of a piece of work, ``None`` if memory ran out; the failed work's tensors are then free.

    Raises EngineError if the work fails for another reason.
    """
    try:
        return work()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise EngineError(f"the engine failed: {one_line(error)}; run the command again to resume") from error
    return None


def free_memory() -> None:
    """Gives the memory of lost tensors back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def choose_tokens(logits: Tensor, rows: Sequence[GrowingRow], decoding: Decoding) -> list[int]:
    """Returns the next token of each row; -1 if a row's logits are not finite.

    Greedy decoding takes the most likely token. Otherwise each row draws one number from its own generator and takes the token
    at which the cumulative probability passes it, so a row's sample does not depend on its neighbours. The order of the
    filters: temperature, top-k, top-p. ``logits`` has shape [rows, vocabulary], in the order of ``rows``.
    """
    best, token = logits.max(dim=-1)
    finite = torch.isfinite(best)
    if not decoding.greedy:
        scores = logits.float() / decoding.temperature
        if decoding.top_k or decoding.top_p < 1:
            kept = min(decoding.top_k or scores.shape[-1], scores.shape[-1])
            scores, order = scores.topk(kept, dim=-1)
        mass = torch.softmax(scores, dim=-1)
        if decoding.top_p < 1:
            mass = mass.masked_fill(mass.cumsum(-1) - mass >= decoding.top_p, 0.0)
        total = mass.cumsum(-1)
        uniform = torch.tensor([[row.draw.random()] for row in rows], device=logits.device)
        place = torch.searchsorted(total, uniform * total[:, -1:], right=True).clamp_max(total.shape[-1] - 1)
        token = (order.gather(1, place) if decoding.top_k or decoding.top_p < 1 else place)[:, 0]
    chosen: list[int] = torch.where(finite, token, -1).tolist()
    return chosen


def shared_prefix(requests: Sequence[Request]) -> tuple[int, ...]:
    """Returns the longest common prefix of the prompts that leaves each prompt at least one token; empty if there is none."""
    if not requests:
        return ()
    low, high = min(r.token_ids for r in requests), max(r.token_ids for r in requests)
    limit = min(len(r.token_ids) for r in requests) - 1
    length = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    return low[: min(length, limit)]


class Scheduler:
    """Decodes requests in a batch, in which waiting rows replace finished ones.

    Args:
        model: A causal language model with the shared-prefix attention.
        batch_size: Largest number of rows decoded together.
    """

    def __init__(self, model: Any, finisher: Finisher, decoding: Decoding, batch_size: int, usage: Usage) -> None:
        self._model, self._finisher, self._decoding = model, finisher, decoding
        self._batch, self._usage = batch_size, usage
        self._waiting: deque[Request] = deque()
        self._rows: list[GrowingRow] = []
        self._decoder: SharedPrefixDecoder | None = None
        self._prefix: tuple[int, ...] = ()
        self._capacity = 0

    def run(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Yields one completion per request as soon as it finishes.

        Raises:
            EngineError: If memory does not suffice for one row, or the engine fails for all rows.
        """
        self._waiting = deque(sorted(requests, key=lambda request: len(request.token_ids), reverse=True))
        self._prefix = shared_prefix(requests)
        self._batch = min(self._batch, len(requests))
        longest = max((len(request.token_ids) + self._finisher.limit(request) for request in requests), default=0)
        self._capacity = longest - len(self._prefix)
        while self._waiting or self._rows:
            done = guarded(self._admit if self._room() else self._step)
            if done is None:
                self._halve()
            else:
                yield from done

    def _room(self) -> int:
        """Returns how many waiting rows to admit now: none until an eighth of the batch is free, so that prefills are few."""
        free = min(self._batch - len(self._rows), len(self._waiting))
        return free if not self._rows or free >= min(max(1, self._batch // 8), len(self._waiting)) else 0

    def _halve(self) -> None:
        """Halves the batch; evicted rows start again later and were not yielded. Raises EngineError if the batch is one row."""
        if self._batch == 1:
            raise EngineError(NO_ROOM)
        self._batch = max(1, min(self._batch, len(self._rows) or self._batch) // 2)
        evicted = self._rows[self._batch :]
        del self._rows[self._batch :]
        self._waiting.extendleft(row.request for row in reversed(evicted))
        _LOG.warning("out of memory: continuing with %d rows at a time", self._batch)
        free_memory()
        if self._decoder is not None and self._rows:
            self._decoder.store.shrink(self._batch)
        else:
            self._decoder = None

    def _ready(self) -> SharedPrefixDecoder:
        """Returns the decoder with the encoded prefix; makes a new one at the start and after memory ran out."""
        if self._decoder is None:
            self._decoder = SharedPrefixDecoder(self._model, self._prefix, self._batch, self._capacity)
        return self._decoder

    def _admit(self) -> list[Completion]:
        began, new = time.perf_counter(), self._decoder is None
        decoder = self._ready()
        start, room = len(self._rows), self._room()
        taken, tokens = 0, 0
        while taken < room and (
            not taken or tokens + len(self._waiting[taken].token_ids) - len(self._prefix) <= PREFILL_TOKENS
        ):
            tokens += len(self._waiting[taken].token_ids) - len(self._prefix)
            taken += 1
        rows = [GrowingRow.begin(self._waiting[index], self._decoding) for index in range(taken)]
        logits = decoder.admit(start, [row.request.token_ids[len(self._prefix) :] for row in rows])
        chosen = choose_tokens(logits, rows, self._decoding)
        self._usage.prefill_tokens += tokens + (len(self._prefix) if new else 0)
        self._usage.prefill_seconds += time.perf_counter() - began
        for _ in rows:
            self._waiting.popleft()
        self._rows += rows
        return self._take(start, chosen)

    def _step(self) -> list[Completion]:
        began, rows = time.perf_counter(), len(self._rows)
        logits = self._ready().step([row.tokens[-1] for row in self._rows], [self._stored(row) for row in self._rows])
        done = self._take(0, choose_tokens(logits, self._rows, self._decoding))
        self._usage.decode_tokens += rows
        self._usage.decode_steps += 1
        self._usage.decode_seconds += time.perf_counter() - began
        return done

    def _stored(self, row: GrowingRow) -> int:
        """Returns how many tokens of a row after the prefix have keys and values: all but the newest."""
        return len(row.request.token_ids) - len(self._prefix) + len(row.tokens) - 1

    def _take(self, start: int, chosen: Sequence[int]) -> list[Completion]:
        """Appends a token to each row from slot ``start`` on, removes finished rows and closes the gaps.

        Returns the completions of the finished rows.
        """
        done: list[Completion] = []
        gone: list[int] = []
        for slot, token in enumerate(chosen, start):
            row = self._rows[slot]
            completion = self._finisher.advance(row, token)
            if completion is not None:
                done.append(completion)
                gone.append(slot)
        for slot in reversed(gone):
            self._remove(slot, broken=chosen[slot - start] < 0)
        return done

    def _remove(self, slot: int, broken: bool) -> None:
        store = self._ready().store
        last = self._rows.pop()
        if broken:
            store.wipe(slot)
        if slot < len(self._rows):
            store.move(len(self._rows), slot, self._stored(last))
            self._rows[slot] = last
