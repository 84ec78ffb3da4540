"""A tokenizer that reads the texts of special tokens as text: ``</s>`` in a message about HTML ends nothing.

It is the model's own tokenizer without special tokens, and with one that no message has, which stands for the end token.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple, Self

from tulu_eval import files

MARK = "\ufdd0end of turn\ufdd1"
"""Stands for the end token; its first and last characters are none that a text may have (Unicode's noncharacters)."""


class Encoded(NamedTuple):
    """A text's token ids, and the place of each token in characters."""

    ids: list[int]
    offsets: list[tuple[int, int]]


class LiteralTokenizer:
    """Encodes texts in which only :data:`MARK` is special.

    Args:
        raw: The tokenizer of the package tokenizers.
        renamed: Ids of the model's tokenizer by ids of ``raw``, where they differ.
    """

    def __init__(self, raw: Any, renamed: dict[int, int]) -> None:
        self._raw, self._renamed = raw, renamed
        self._mark = int(raw.token_to_id(MARK))

    @classmethod
    def of(cls, tokenizer: Any) -> Self | None:
        """Returns the literal form of a fast tokenizer of transformers; ``None`` if its model itself makes special tokens."""
        from tokenizers import AddedToken, Tokenizer

        data = files.parse_json(tokenizer.backend_tokenizer.to_str(), files.Place("tokenizer.json"))
        added = data["added_tokens"]
        data["added_tokens"] = []
        raw: Any = Tokenizer.from_str(json.dumps(data))
        raw.no_padding()
        raw.no_truncation()
        # A token that is no word of the vocabulary gets another id here.
        for one in added:
            if not one["special"]:
                how = ("content", "single_word", "lstrip", "rstrip", "normalized")
                raw.add_tokens([AddedToken(**{name: one[name] for name in how})])
        raw.add_special_tokens([MARK])
        renamed: dict[int, int] = {raw.token_to_id(one["content"]): one["id"] for one in added if not one["special"]}
        made = cls(raw, renamed)
        special = {one["id"]: one["content"] for one in added if one["special"]}
        texts = " ".join(special.values()), *special.values()
        return None if any(set(made.encode(text, -1).ids) & set(special) for text in texts) else made

    def encode(self, text: str, end: int) -> Encoded:
        """Returns a text's tokens, with the id ``end`` for each :data:`MARK`."""
        found = self._raw.encode(text, add_special_tokens=False)
        ids = [end if one == self._mark else self._renamed.get(one, one) for one in found.ids]
        return Encoded(ids, found.offsets)
