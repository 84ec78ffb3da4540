r"""The Tulu template on the training side, and which of its tokens are trained on.

A conversation is ``<|role|>\n{content}\n`` a turn, contents stripped, an assistant's content followed by the end-of-sequence
token; the whole is stripped (hamishivi/EasyLM @ dbf2212c, ``data.py``, ``encode_with_messages_format``). Trained on are an
assistant's content and its end token, not its tag. A prompt ends with ``<|assistant|>\n``.

The evaluation's template strips no content (facts of the suite, 3.1 and 3.2): the two agree where there is nothing to strip.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tulu_eval.errors import PreflightError
from tulu_eval.models.end_tokens import reserved
from tulu_eval.models.tokenizer_calls import told

ROLES = ("system", "user", "assistant")

TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>\\n' + message['content'] }}"
    "{{ (eos_token if message['role'] == 'assistant' else '') + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
"""The Tulu template as Jinja, for the tokenizers of trained models.

It renders what the released tokenizers' renders, and system messages besides, which those leave out though training has them.
"""
Message = Mapping[str, str]


class TextSpan(NamedTuple):
    """A piece of a text, in characters: from ``start`` to before ``end``."""

    start: int
    end: int


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """A row of tokens.

    Attributes:
        ids: [tokens], int32.
        mask: [tokens], bool: the tokens that are trained on, or compared; none of them is the first.
    """

    ids: NDArray[np.int32]
    mask: NDArray[np.bool_]

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
    """Returns the text after which the assistant's answer begins."""
    return render(messages, eos)[0] + "\n<|assistant|>\n"


class Encoder:
    """Writes conversations as tokens.

    Args:
        tokenizer: Of transformers; a fast one, which tells which characters each token covers.

    Raises:
        PreflightError: It has no end-of-sequence token, does not tell, or cannot encode a text.
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
        """Whether a message's text has the string of a special token in it, which would be read as that token."""
        return any(self._reserved.search(message["content"]) for message in messages)

    def conversations(self, rows: Sequence[Sequence[Message]], *, last_only: bool) -> list[Tokens]:
        """Returns conversations as tokens, with the tokens in front that the tokenizer itself puts there (BOS).

        Args:
            rows: Conversations.
            last_only: Mark the last message only, as for preference data; else every assistant's.
        """
        rendered = [render(messages, self._eos) for messages in rows]
        with told("the tokenizer does not take the conversations"):
            encoded = self._tokenizer(
                [text for text, _ in rendered],
                add_special_tokens=False,
                return_attention_mask=False,
                return_offsets_mapping=True,
            )
        return [
            self._with_mask(ids, offsets, spans[-1:] if last_only else spans)
            for ids, offsets, (_, spans) in zip(encoded["input_ids"], encoded["offset_mapping"], rendered, strict=True)
        ]

    def _with_mask(self, ids: list[int], offsets: list[tuple[int, int]], spans: list[TextSpan]) -> Tokens:
        # A token belongs to an answer if it begins in it: one that reaches over from the tag does not.
        starts = np.array([start for start, _ in offsets])
        mask = np.zeros(len(ids), dtype=np.bool_)
        for span in spans:
            mask |= (starts >= span.start) & (starts < span.end)
        lead = len(self._lead)
        return Tokens(np.array(self._lead + ids, dtype=np.int32), np.concatenate([np.zeros(lead, dtype=np.bool_), mask]))

    def prompts(self, rows: Sequence[Sequence[Message]], *, bos: bool) -> list[Tokens]:
        """Returns prompts as tokens; ``bos``: with the tokens in front that the tokenizer itself puts there."""
        texts = [render_prompt(messages, self._eos) for messages in rows]
        with told("the tokenizer does not take the prompts"):
            encoded = self._tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]
        lead = self._lead if bos else []
        return [Tokens(np.array(lead + ids, dtype=np.int32), np.zeros(len(lead) + len(ids), dtype=np.bool_)) for ids in encoded]
