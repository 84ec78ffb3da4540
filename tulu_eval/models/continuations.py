"""Token ids of the texts that may follow a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tulu_eval.errors import PreflightError
from tulu_eval.logprobs import Continuation

TAIL = 200
"""Characters of a prompt's end that are encoded again before each continuation; whole prompts would take many times as long."""

AGREE = 8
"""Tokens at the end of a prompt that its tail alone must give, too; else the whole prompt is encoded again."""


class TextEncoder(Protocol):
    """What writes prompts for one tokenizer: :class:`tulu_eval.models.tokenizer.PromptWriter`."""

    def encode(self, texts: Sequence[str], names: Sequence[str]) -> list[tuple[int, ...]]:
        """Returns the token ids of texts, with the beginning-of-sequence token."""


def encode_continuations(
    encoder: TextEncoder,
    prompts: Sequence[tuple[str, tuple[int, ...]]],
    wanted: Sequence[tuple[str, ...]],
    names: Sequence[str],
) -> list[tuple[Continuation, ...]]:
    """Returns the continuations of each prompt: the tokens that come behind the prompt's own when both are encoded together.

    lm-eval (``api/model.py``, ``_encode_pair``) and open-instruct (``eval/utils.py``, ``score_completions``) take these tokens,
    too. Where a continuation's start would share a token with the prompt's end, they score other text than was asked; here that
    is an error.

    Args:
        encoder: Encodes texts.
        prompts: Text and token ids of each prompt.
        wanted: Continuations of each prompt.
        names: Name of each prompt for error messages.

    Raises:
        PreflightError: If a continuation has no token of its own, or shares one with the prompt.
    """
    tails = encoder.encode([text[-TAIL:] for text, _ in prompts], names)
    bases = [
        (text[-TAIL:], tail) if tail[-AGREE:] == ids[-AGREE:] else (text, ids)
        for (text, ids), tail in zip(prompts, tails, strict=True)
    ]
    rows = [(base, text, name) for base, texts, name in zip(bases, wanted, names, strict=True) for text in texts]
    encoded = encoder.encode([base + text for (base, _), text, _ in rows], [name for _, _, name in rows])
    found = iter([_behind(ids, row, text, name) for ((_, ids), text, name), row in zip(rows, encoded, strict=True)])
    return [tuple(next(found) for _ in texts) for texts in wanted]


def _behind(prompt: tuple[int, ...], row: tuple[int, ...], text: str, name: str) -> Continuation:
    rest = row[len(prompt) :]
    if row[: len(prompt)] != prompt:
        raise PreflightError(
            f"{name}: the continuation {text[:40]!r} shares a token with the prompt's end; start it with a space or a newline"
        )
    if not rest:
        raise PreflightError(f"{name}: the tokenizer makes no token of the continuation {text[:40]!r}")
    return Continuation(rest, text)
