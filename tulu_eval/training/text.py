r"""Renders conversations in the Tulu template for training, encodes them, and marks the tokens to train on.

Each turn is ``<|role|>\n{content}\n`` with a stripped content; the end-of-sequence token follows an assistant's content; and
the whole text is stripped (hamishivi/EasyLM @ dbf2212c, ``data.py``, ``encode_with_messages_format``). Training uses an
assistant's content and its end token, not its tag. A prompt ends with ``<|assistant|>\n``.

The evaluation's template strips no content (facts of the suite, 3.1 and 3.2); both agree if there is nothing to strip.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tulu_eval.errors import PreflightError
from tulu_eval.models.end_tokens import reserved
from tulu_eval.models.tokenizer_calls import told
from tulu_eval.training.literal import MARK, Encoded, LiteralTokenizer

ROLES = ("system", "user", "assistant")

TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>\\n' + message['content'] }}"
    "{{ (eos_token if message['role'] == 'assistant' else '') + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
"""The Tulu template as Jinja, for the tokenizers of trained models.

It renders like the released tokenizers' template, but also renders system messages, which training has and that one omits.
"""
Message = Mapping[str, str]


class TextSpan(NamedTuple):
    """A part of a text, in characters, from ``start`` to before ``end``."""

    start: int
    end: int


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """A row of tokens.

    Attributes:
        ids: [tokens], int32.
        mask: [tokens], bool: the tokens to train on or to compare; never the first token.
        target: The right answer to a prompt that a rule grades; empty for other rows.
    """

    ids: NDArray[np.int32]
    mask: NDArray[np.bool_]
    target: str = ""

    def __len__(self) -> int:
        return len(self.ids)


def render(messages: Sequence[Message], eos: str) -> tuple[str, list[TextSpan]]:
    """Returns a conversation's text, and the span of each assistant's content with its end token."""
    text, spans = "", []
    for message in messages:
        text += f"<|{message['role']}|>\n"
        start = len(text)
        text += message["content"].strip()
        if message["role"] == "assistant":
            text += eos
            spans.append(TextSpan(start, len(text)))
        text += "\n"
    return text.strip(), spans


def render_prompt(messages: Sequence[Message], eos: str) -> str:
    """Returns the text of a prompt, after which the assistant's answer begins."""
    return render(messages, eos)[0] + "\n<|assistant|>\n"


class Encoder:
    """Encodes conversations.

    Args:
        tokenizer: A fast tokenizer of transformers, which gives the characters of each token.

    Raises:
        PreflightError: If the tokenizer has no end-of-sequence token, is not fast, or cannot encode a text.
    """

    def __init__(self, tokenizer: Any) -> None:
        if tokenizer.eos_token_id is None:
            raise PreflightError("the tokenizer has no end-of-sequence token, so no response could end")
        if not tokenizer.is_fast:
            raise PreflightError("the tokenizer has no tokenizer.json, so it cannot tell which tokens an answer has")
        self._tokenizer = tokenizer
        self.eos_id = int(tokenizer.eos_token_id)
        self._eos = str(tokenizer.eos_token)
        with told("the tokenizer cannot be used"):
            self._reserved = reserved(tokenizer)
            bare, full = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True))
            self._lead: list[int] = full[: next(i for i in range(len(full)) if full[i : i + len(bare)] == bare)]

    def holds_special(self, messages: Sequence[Message]) -> bool:
        """Whether a message's text contains a special token's, which the tokenizer would read as that token."""
        return any(self._reserved.search(message["content"]) for message in messages)

    def can_write(self, messages: Sequence[Message]) -> bool:
        """Whether the texts of special tokens in messages, if there are any, can be written as text."""
        if not self.holds_special(messages):
            return True
        return self._literal is not None and not any(MARK in message["content"] for message in messages)

    @functools.cached_property
    def _literal(self) -> LiteralTokenizer | None:
        return LiteralTokenizer.of(self._tokenizer)

    def _encode(self, rows: Sequence[Sequence[Message]], write: Callable[[Sequence[Message], str], str]) -> list[Encoded]:
        """Returns the texts that ``write`` gives for messages and an end token, encoded; messages have no special tokens."""
        held = [self.holds_special(messages) for messages in rows]
        plain = [write(messages, self._eos) for messages, special in zip(rows, held, strict=True) if not special]
        found: Any = {"input_ids": [], "offset_mapping": []}
        if plain:
            found = self._tokenizer(plain, add_special_tokens=False, return_attention_mask=False, return_offsets_mapping=True)
        ordinary = iter(map(Encoded, found["input_ids"], found["offset_mapping"]))
        done = []
        for messages, special in zip(rows, held, strict=True):
            if not special:
                done.append(next(ordinary))
                continue
            assert self._literal is not None  # noqa: S101 - can_write said so
            done.append(self._literal.encode(write(messages, MARK), self.eos_id))
        return done

    def conversations(self, rows: Sequence[Sequence[Message]], *, last_only: bool) -> list[Tokens]:
        """Returns conversations as tokens, beginning with the tokens that the tokenizer itself adds (BOS).

        ``last_only`` marks only the last message, for preference data, instead of every assistant's.
        """
        with told("the tokenizer does not take the conversations"):
            encoded = self._encode(rows, lambda messages, eos: render(messages, eos)[0])
        found = []
        for messages, (ids, offsets) in zip(rows, encoded, strict=True):
            spans = render(messages, MARK if self.holds_special(messages) else self._eos)[1]
            found.append(self._with_mask(ids, offsets, spans[-1:] if last_only else spans))
        return found

    def _with_mask(self, ids: list[int], offsets: list[tuple[int, int]], spans: list[TextSpan]) -> Tokens:
        # A token belongs to an answer if it begins in it, so a token that begins in the tag does not.
        starts = np.array([start for start, _ in offsets])
        mask = np.zeros(len(ids), dtype=np.bool_)
        for span in spans:
            mask |= (starts >= span.start) & (starts < span.end)
        lead = len(self._lead)
        return Tokens(np.array(self._lead + ids, dtype=np.int32), np.concatenate([np.zeros(lead, dtype=np.bool_), mask]))

    def prompts(self, rows: Sequence[Sequence[Message]], *, bos: bool) -> list[Tokens]:
        """Returns prompts as tokens; with ``bos``, they begin with the tokens that the tokenizer itself adds."""
        with told("the tokenizer does not take the prompts"):
            encoded = [one.ids for one in self._encode(rows, render_prompt)]
        lead = self._lead if bos else []
        return [Tokens(np.array(lead + ids, dtype=np.int32), np.zeros(len(lead) + len(ids), dtype=np.bool_)) for ids in encoded]
