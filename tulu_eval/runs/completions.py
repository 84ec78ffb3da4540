"""Gets the answers to requests of any kind from an engine, in one form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tulu_eval.backends.base import Backend
from tulu_eval.logprobs import LOGPROB_RANGE, AnyRequest, ChoiceRequest, Continuation, ScoreRequest
from tulu_eval.records import Completion, Decoding, Request

DIGITS = 7
"""Decimals of a stored log-probability; in float32 the seventh is noise already."""


def completions(backend: Backend, requests: Sequence[AnyRequest], decoding: Decoding) -> Iterator[Completion]:
    """Yields a completion per request, in the engine's order; the requests are of one kind.

    The completion of a request for log-probabilities has the likelihood of each given text, and as its own text the likeliest,
    the first of equally likely ones; ``decoding`` has no effect on it. A log-probability that is no number, or outside
    :data:`LOGPROB_RANGE`, is an error.
    """
    generated = [one for one in requests if isinstance(one, Request)]
    if generated:
        yield from backend.generate(generated, decoding)
    chosen = {one.key: one for one in requests if isinstance(one, ChoiceRequest)}
    if chosen:
        for choice in backend.choose(list(chosen.values())):
            ends = chosen[choice.key].continuations if choice.key in chosen else ()
            yield _likeliest(choice.key, ends, [(one,) for one in choice.logprobs], choice.seconds, choice.error)
    scored = {one.key: one for one in requests if isinstance(one, ScoreRequest)}
    if scored:
        for score in backend.score(list(scored.values())):
            ends = scored[score.key].continuations if score.key in scored else ()
            yield _likeliest(score.key, ends, [one.logprobs for one in score.continuations], score.seconds, score.error)


def _likeliest(
    key: str, ends: Sequence[Continuation], logprobs: Sequence[tuple[float, ...]], seconds: float, error: str
) -> Completion:
    error = error or _wrong(ends, logprobs)
    if error:
        return Completion(key, "", (), "error", seconds, error)
    found = [end.scored(round(one, DIGITS) for one in own) for end, own in zip(ends, logprobs, strict=True)]
    place = max(range(len(found)), key=lambda at: found[at].total)
    return Completion(key, ends[place].text, ends[place].token_ids, "stop", seconds, "", tuple(found))


def _wrong(ends: Sequence[Continuation], logprobs: Sequence[tuple[float, ...]]) -> str:
    if [len(one.token_ids) for one in ends] != [len(one) for one in logprobs]:
        return "the engine gave another number of log-probabilities than there are tokens"
    low, high = LOGPROB_RANGE
    if not all(low <= each <= high for one in logprobs for each in one):
        return "the engine gave a log-probability that is none"
    return ""
