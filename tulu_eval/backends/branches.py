"""What every engine makes of requests for log-probabilities: prompts with continuations; needs no torch.

A choice is continuations of one token each.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tulu_eval.logprobs import Choice, ChoiceRequest, ScoreRequest, Scores


@dataclass(frozen=True, slots=True)
class Branches:
    """A prompt and the continuations to be scored.

    Attributes:
        prompt: Token ids, at least one.
        texts: Token ids of each continuation, at least one.
    """

    key: str
    prompt: tuple[int, ...]
    texts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class BranchScores:
    """The log-probability of each token of each continuation.

    Attributes:
        logprobs: In the order of the texts and of their tokens; empty after an error.
        seconds: Wall-clock seconds of the batch, or since the request went into the engine.
        error: One line; empty if there is none.
    """

    key: str
    logprobs: list[list[float]]
    seconds: float
    error: str = ""

    @classmethod
    def of(cls, key: str, logprobs: list[list[float]], seconds: float) -> BranchScores:
        """Returns the answer with these log-probabilities, an error if one is not finite."""
        if all(math.isfinite(one) for text in logprobs for one in text):
            return cls(key, logprobs, seconds)
        return cls(key, [], seconds, "the model's logits are not finite")


def of_choices(requests: Sequence[ChoiceRequest]) -> list[Branches]:
    """Returns each request's prompt with its candidates as continuations."""
    return [Branches(one.key, one.token_ids, tuple((token,) for token in one.candidates)) for one in requests]


def choices(found: Iterable[BranchScores]) -> Iterator[Choice]:
    """Yields each answer as a choice."""
    for one in found:
        yield Choice(one.key, tuple(text[0] for text in one.logprobs), one.seconds, one.error)


def of_scores(requests: Sequence[ScoreRequest]) -> list[Branches]:
    """Returns each request's prompt with its continuations."""
    return [Branches(one.key, one.token_ids, tuple(text.token_ids for text in one.continuations)) for one in requests]


def scores(requests: Sequence[ScoreRequest], found: Iterable[BranchScores]) -> Iterator[Scores]:
    """Yields each answer with the continuations of its request."""
    texts = {one.key: one.continuations for one in requests}
    for one in found:
        pairs = zip(texts[one.key], one.logprobs, strict=not one.error)
        yield Scores(one.key, tuple(text.scored(own) for text, own in pairs), one.seconds, one.error)
