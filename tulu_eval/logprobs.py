"""Requests for log-probabilities, and a backend's answers: frozen and slotted, like :mod:`tulu_eval.records`.

A ``ChoiceRequest`` asks how likely candidates for the next token are and gives a ``Choice``; a ``ScoreRequest`` asks how likely
whole continuations are and gives ``Scores``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from tulu_eval.records import Likelihood, Request, request_key

LOGPROB_RANGE = (-1e6, 1e-3)
"""Range of a natural log-probability; rounding of 16-bit arithmetic may lift one above 0."""


@dataclasses.dataclass(frozen=True, slots=True)
class Continuation:
    """A text that may follow a prompt.

    Attributes:
        token_ids: Its tokens after the prompt's, at least one.
    """

    token_ids: tuple[int, ...]
    text: str

    def scored(self, logprobs: Iterable[float]) -> Likelihood:
        """Returns the likelihood for the log-probabilities of the tokens."""
        return Likelihood(self.text, tuple(logprobs))


@dataclasses.dataclass(frozen=True, slots=True)
class ChoiceRequest:
    """A prompt and candidates for its next token.

    Attributes:
        key: Content key, as :func:`request_key` makes it.
        token_ids: The whole prompt, including the beginning-of-sequence token.
        candidates: Token ids, at least one.
        texts: The same as texts; empty if nobody asks for them.
    """

    key: str
    token_ids: tuple[int, ...]
    text: str
    candidates: tuple[int, ...]
    texts: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, settings: str, token_ids: tuple[int, ...], text: str, candidates: tuple[int, ...], texts: tuple[str, ...] = ()
    ) -> ChoiceRequest:
        """Returns a request with its key; ``settings`` is as for :func:`request_key`."""
        return cls(request_key(settings, token_ids, text, candidates=candidates), token_ids, text, candidates, texts)

    @property
    def continuations(self) -> tuple[Continuation, ...]:
        """The candidates with their texts; empty without texts."""
        return tuple(Continuation((token,), text) for token, text in zip(self.candidates, self.texts, strict=False))

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
class ScoreRequest:
    """A prompt and texts that may follow it.

    Attributes:
        key: Content key, as :func:`request_key` makes it.
        token_ids: The whole prompt, including the beginning-of-sequence token; at least one token.
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
    continuations: tuple[Likelihood, ...]
    seconds: float
    error: str = ""


AnyRequest = Request | ChoiceRequest | ScoreRequest
"""A request of any kind."""
