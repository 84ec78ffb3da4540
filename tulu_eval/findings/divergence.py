"""Finds where two completions of one item part."""

from __future__ import annotations

import dataclasses

from tulu_eval.records import Completion
from tulu_eval.runs.estimate import common_prefix

EXCERPT = 40
"""Number of characters that are shown from the first difference of two texts on."""


@dataclasses.dataclass(frozen=True, slots=True)
class Divergence:
    """The first difference of two completions of one item.

    Attributes:
        token: Zero-based position of the first token that differs; ``None`` if the tokenizers differ.
        character: Zero-based position of the first character that differs.
        a: A's text from there on, at most :data:`EXCERPT` characters.
        b: B's text from there on, likewise.
    """

    token: int | None
    character: int
    a: str
    b: str


def divergence(a: Completion, b: Completion, same_tokenizer: bool) -> Divergence | None:
    """Returns the first difference of two completions; ``None`` if their texts are equal."""
    if a.text == b.text:
        return None
    place = common_prefix((a.text, b.text))
    token = common_prefix((a.token_ids, b.token_ids)) if same_tokenizer else None
    return Divergence(token, place, a.text[place : place + EXCERPT], b.text[place : place + EXCERPT])
