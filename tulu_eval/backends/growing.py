"""A row while it is generated, and how it ends: what every engine that sees token ids shares. No torch here."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tulu_eval.records import Completion, Decoding, FinishReason, Request


def one_line(error: BaseException) -> str:
    """Returns an error as one line with its type."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]


@dataclass(slots=True)
class GrowingRow:
    """One request while it is decoded.

    Attributes:
        request: What was asked.
        started: When its prompt went into the engine, in ``time.perf_counter`` seconds.
        draw: Source of this row's random numbers; depends on the seed and the request only.
        tokens: What was generated.
    """

    request: Request
    started: float
    draw: random.Random
    tokens: list[int] = field(default_factory=list)

    @classmethod
    def begin(cls, request: Request, decoding: Decoding) -> GrowingRow:
        """Returns the row of a request, with nothing generated."""
        return cls(request, time.perf_counter(), decoding.draws(request.key))

    def fail(self, cause: str) -> Completion:
        """Returns the completion of a row that broke for a reason of its own."""
        return Completion(self.request.key, "", tuple(self.tokens), "error", time.perf_counter() - self.started, cause)


class Finisher:
    """Says when a row ends and makes its completion.

    Args:
        tokenizer: Of transformers.
        eos_ids: Tokens that end a row.
        decoding: Token limit and stop strings.
        max_length: Tokens that a row may have, its prompt included; 0 where only ``decoding`` limits it.
    """

    def __init__(self, tokenizer: Any, eos_ids: Sequence[int], decoding: Decoding, max_length: int = 0) -> None:
        self._tokenizer, self._eos, self._decoding = tokenizer, frozenset(eos_ids), decoding
        self._max_length = max_length
        # A character is at most 4 bytes and a token at least one; 8 more for tokens that decode differently at a beginning.
        self._tail = max((4 * len(stop) for stop in decoding.stop), default=0) + 8

    def limit(self, request: Request) -> int:
        """Returns how many tokens may be generated for a request."""
        limit = self._decoding.max_new_tokens
        return min(limit, self._max_length - len(request.token_ids)) if self._max_length else limit

    def _text(self, tokens: Sequence[int]) -> str:
        text = self._tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(text)

    def advance(self, row: GrowingRow, token: int) -> Completion | None:
        """Appends a token (-1: none could be chosen) to a row; returns its completion where that ends it."""
        if token < 0:
            return row.fail("the model's logits are not finite")
        row.tokens.append(token)
        try:
            reason = self._reason(row)
            return None if reason is None else self._complete(row, reason)
        except (ValueError, TypeError, RuntimeError, LookupError, OverflowError) as error:
            return row.fail(f"the tokens cannot be decoded: {one_line(error)}")

    def _reason(self, row: GrowingRow) -> FinishReason | None:
        """Returns why a row ends, None where it goes on."""
        tokens = row.tokens
        if tokens[-1] in self._eos:
            return "stop"
        if self._decoding.stop:
            tail = self._text(tokens[-self._tail :])
            if any(stop in tail for stop in self._decoding.stop):
                return "stop"
        return "length" if len(tokens) >= self.limit(row.request) else None

    def _complete(self, row: GrowingRow, reason: FinishReason) -> Completion:
        """Returns a finished row's completion; its text ends before the end token or the first stop string.

        The end token is cut off by its id: one that the tokenizer does not call special (``<|im_end|>`` of some) would stay in.
        """
        ends = (at for at, token in enumerate(row.tokens) if token in self._eos)
        text = self._text(row.tokens[: next(ends, None)])
        cuts = [at for stop in self._decoding.stop if (at := text.find(stop)) >= 0]
        text = text[: min(cuts)] if cuts else text
        return Completion(row.request.key, text, tuple(row.tokens), reason, time.perf_counter() - row.started)
