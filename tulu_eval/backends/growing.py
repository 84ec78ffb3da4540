"""Rows during generation, and the rules that end them, for every engine that sees token ids; needs no torch."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tulu_eval.records import Completion, Decoding, FinishReason, Request


def one_line(error: BaseException) -> str:
    """Returns an error as one line with its type, at most 500 characters."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]


@dataclass(slots=True)
class GrowingRow:
    """One request during decoding.

    Attributes:
        started: Time at which its prompt went into the engine, in ``time.perf_counter`` seconds.
        draw: This row's random number generator; depends on the seed and the request only.
    """

    request: Request
    started: float
    draw: random.Random
    tokens: list[int] = field(default_factory=list)

    @classmethod
    def begin(cls, request: Request, decoding: Decoding, tokens: Sequence[int] = ()) -> GrowingRow:
        """Returns a new row of a request, with tokens that are there already."""
        return cls(request, time.perf_counter(), decoding.draws(request.key), list(tokens))

    def fail(self, cause: str) -> Completion:
        """Returns the completion of a row that failed alone, with its cause as error."""
        return Completion(self.request.key, "", tuple(self.tokens), "error", time.perf_counter() - self.started, cause)


class Finisher:
    """Decides when a row ends, and makes its completion.

    Args:
        max_length: Largest length of a row in tokens, including its prompt; 0 for no limit besides ``decoding``'s.
    """

    def __init__(self, tokenizer: Any, eos_ids: Sequence[int], decoding: Decoding, max_length: int = 0) -> None:
        self._tokenizer, self._eos, self._decoding = tokenizer, frozenset(eos_ids), decoding
        self._max_length = max_length
        # A character has at most 4 bytes and a token at least 1; 8 more for tokens that decode differently at a text's start.
        self._tail = max((4 * len(stop) for stop in decoding.stop), default=0) + 8

    def limit(self, request: Request) -> int:
        """Returns the largest number of new tokens for a request."""
        limit = self._decoding.max_new_tokens
        return min(limit, self._max_length - len(request.token_ids)) if self._max_length else limit

    def _text(self, tokens: Sequence[int]) -> str:
        text = self._tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(text)

    def advance(self, row: GrowingRow, token: int) -> Completion | None:
        """Appends a token to a row (-1: no token could be chosen); returns the row's completion, ``None`` if it goes on."""
        if token < 0:
            return row.fail("the model's logits are not finite")
        row.tokens.append(token)
        try:
            reason = self._reason(row)
            return None if reason is None else self._complete(row, reason)
        except (ValueError, TypeError, RuntimeError, LookupError, OverflowError) as error:
            return row.fail(f"the tokens cannot be decoded: {one_line(error)}")

    def _reason(self, row: GrowingRow) -> FinishReason | None:
        """Returns why a row ends; ``None`` if it goes on."""
        tokens = row.tokens
        if tokens[-1] in self._eos:
            return "stop"
        if self._decoding.stop:
            tail = self._text(tokens[-self._tail :])
            if any(stop in tail for stop in self._decoding.stop):
                return "stop"
        return "length" if len(tokens) >= self.limit(row.request) else None

    def _complete(self, row: GrowingRow, reason: FinishReason) -> Completion:
        """Returns a finished row's completion, whose text ends before the end token or the first stop string.

        The id cuts off the end token, because the text keeps a token that the tokenizer does not mark as special (some models'
        ``<|im_end|>``).
        """
        ends = (at for at, token in enumerate(row.tokens) if token in self._eos)
        text = self._text(row.tokens[: next(ends, None)])
        cuts = [at for stop in self._decoding.stop if (at := text.find(stop)) >= 0]
        text = text[: min(cuts)] if cuts else text
        return Completion(row.request.key, text, tuple(row.tokens), reason, time.perf_counter() - row.started)
