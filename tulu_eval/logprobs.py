"""Requests for log-probabilities, and a backend's answers: frozen and slotted, like :mod:`tulu_eval.records`.

A ``ChoiceRequest`` asks how likely candidates for the next token are and gives a ``Choice``; a ``ScoreRequest`` asks how likely
whole continuations are and gives ``Scores``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

from tulu_eval.records import request_key


@dataclasses.dataclass(frozen=True, slots=True)
class ChoiceRequest:
    """A prompt and candidates for its next token.

    Attributes:
        key: Content key, as :func:`request_key` makes it.
        token_ids: The whole prompt, including the beginning-of-sequence token.
        text: The same prompt as text.
        candidates: Token ids, at least one.
    """

    key: str
    token_ids: tuple[int, ...]
    text: str
    candidates: tuple[int, ...]

    @classmethod
    def of(cls, settings: str, token_ids: tuple[int, ...], text: str, candidates: tuple[int, ...]) -> ChoiceRequest:
        """Returns a request with its key; ``settings`` is as for :func:`request_key`."""
        return cls(request_key(settings, token_ids, text, candidates=candidates), token_ids, text, candidates)

    @property
    def length(self) -> int:
        """Positions that an engine needs: the prompt and one new token."""
        return len(self.token_ids) + 1


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """A backend's answer to a :class:`ChoiceRequest`.

    Attributes:
        logprobs: Natural log-probability of each candidate among all tokens of the vocabulary; empty after an error.
        seconds: Wall-clock seconds of the batch in which the engine computed it.
        error: One line; empty if there is none.
    """

    key: str
    logprobs: tuple[float, ...]
    seconds: float
    error: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Continuation:
    """A text that may follow a prompt.

    Attributes:
        token_ids: Its tokens after the prompt's, at least one.
        text: The same as text.
    """

    token_ids: tuple[int, ...]
    text: str

    def scored(self, logprobs: Iterable[float]) -> ContinuationScore:
        """Returns the score for the log-probabilities of the tokens."""
        return ContinuationScore(tuple(logprobs), len(self.text.encode("utf-8", "surrogatepass")))


@dataclasses.dataclass(frozen=True, slots=True)
class ContinuationScore:
    """How likely a continuation is.

    Attributes:
        logprobs: Natural log-probability of each token after the prompt and the tokens before it.
        size: Bytes of the continuation's text in UTF-8.
    """

    logprobs: tuple[float, ...]
    size: int

    @property
    def total(self) -> float:
        """Natural log-probability of the whole continuation."""
        return math.fsum(self.logprobs)

    @property
    def per_token(self) -> float:
        """``total`` divided by the number of tokens."""
        return self.total / len(self.logprobs)

    @property
    def per_byte(self) -> float:
        """``total`` divided by the number of bytes; minus infinity for an empty text."""
        return self.total / self.size if self.size else -math.inf


@dataclasses.dataclass(frozen=True, slots=True)
class ScoreRequest:
    """A prompt and texts that may follow it.

    Attributes:
        key: Content key, as :func:`request_key` makes it.
        token_ids: The whole prompt, including the beginning-of-sequence token; at least one token.
        text: The same prompt as text.
        continuations: At least one.
    """

    key: str
    token_ids: tuple[int, ...]
    text: str
    continuations: tuple[Continuation, ...]

    @classmethod
    def of(cls, settings: str, token_ids: tuple[int, ...], text: str, continuations: tuple[Continuation, ...]) -> ScoreRequest:
        """Returns a request with its key; ``settings`` is as for :func:`request_key`."""
        own = [dataclasses.asdict(one) for one in continuations]
        return cls(request_key(settings, token_ids, text, continuations=own), token_ids, text, continuations)

    @property
    def length(self) -> int:
        """Positions that an engine needs: the prompt, the longest continuation and one new token."""
        return len(self.token_ids) + max(len(one.token_ids) for one in self.continuations) + 1


@dataclasses.dataclass(frozen=True, slots=True)
class Scores:
    """A backend's answer to a :class:`ScoreRequest`.

    Attributes:
        continuations: One score per continuation, in the request's order; empty after an error.
        seconds: Wall-clock seconds of the batch in which the engine computed them.
        error: One line; empty if there is none.
    """

    key: str
    continuations: tuple[ContinuationScore, ...]
    seconds: float
    error: str = ""
