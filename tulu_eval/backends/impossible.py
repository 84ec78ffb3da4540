"""Why log-probabilities cannot be computed for a request, the same for every engine; needs no torch."""

from __future__ import annotations

from collections.abc import Sequence


def impossible(prompt: Sequence[int], texts: Sequence[Sequence[int]], room: int, vocabulary: int = 0) -> str:
    """Returns why continuations of a prompt cannot be scored, as one line; empty if they can.

    A candidate is a continuation of one token. ``room`` is the largest length of prompt and continuation together, in tokens;
    ``vocabulary`` is the model's number of token ids, 0 if it is not known.
    """
    if not prompt:
        return "the prompt has no tokens"
    if not texts:
        return "there is no continuation"
    if not all(texts):
        return "a continuation has no tokens"
    if vocabulary:
        for name, ids in (("the prompt", prompt), *(("a continuation", text) for text in texts)):
            if not 0 <= min(ids) <= max(ids) < vocabulary:
                return f"{name} has a token id outside the model's vocabulary of {vocabulary}"
    length = len(prompt) + max(map(len, texts))
    return f"prompt and continuation have {length} tokens, and a row has room for {room}" if length > room else ""
