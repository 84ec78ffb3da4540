"""Maps the fields of an answer to this project's words, for the vocabularies of many servers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tulu_eval.records import FinishReason

_STOP = frozenset({"stop", "eos", "eos_token", "end_turn", "stop_sequence", "stop_token", "complete"})
_LENGTH = frozenset({"length", "max_tokens", "max_length", "model_length", "model_context_window_exceeded"})
_FILTERED = frozenset(
    {"content_filter", "content_filtered", "refusal", "safety", "recitation", "sensitive", "error_toxic", "prohibited_content",
     "blocklist", "spii", "guardrail_intervened"}
)  # fmt: skip
_BROKEN = frozenset({"error", "abort", "aborted", "cancelled", "timeout", "network_error", "insufficient_system_resource"})
"""Servers' words for the end of an answer, in lower case.

OpenAI: ``openai`` 3.54.0, ``types/chat/chat_completion.py``; text-generation-inference: ``eos_token``, ``stop_sequence``;
Anthropic: ``end_turn``, ``max_tokens``, ``refusal``, ...; Mistral: ``model_length``; DeepSeek:
``insufficient_system_resource``; vLLM: ``abort``, ``error``; Cohere, Gemini, Zhipu, Bedrock: as litellm @ 004c2c43 lists them,
``litellm_core_utils/core_helpers.py``. Litellm maps ``error`` to ``stop``; this module does not.
"""


def filtered(word: Any) -> bool:
    """Whether a ``finish_reason`` means that a content filter cut an answer off."""
    return _plain(word) in _FILTERED


def _plain(word: Any) -> str:
    return str(word).lower().replace("-", "_")


class End(NamedTuple):
    """The end of an answer.

    Attributes:
        reason: This project's word. An unknown word becomes ``unknown``, and the text is an answer like any other.
        detail: One line; empty for ``stop`` and ``length``.
        retry: Whether the server broke the answer off for its own reasons, so that another attempt may succeed.
    """

    reason: FinishReason
    detail: str = ""
    retry: bool = False


def end_of(word: Any) -> End:
    """Returns the end of an answer from its ``finish_reason``, whose text must be safe to show already.

    A cut by a content filter is an ``error``, although the text is kept: a grade would measure the filter, not the model. A
    tool call counts as ``unknown``: no tool was offered, and the text is the answer.
    """
    if word is None:
        return End("unknown", "the server did not say why it ended")
    text, plain = str(word)[:40], _plain(word)
    if plain in _STOP:
        return End("stop")
    if plain in _LENGTH:
        return End("length")
    if filtered(word):
        return End("error", f"the provider's filter cut it off ({text!r})")
    if plain in _BROKEN:
        return End("error", f"the server broke it off ({text!r})", retry=True)
    return End("unknown", f"the server ended it for {text!r}")


def text_of(message: Mapping[str, Any]) -> str | None:
    """Returns a message's text; empty if its content is null, ``None`` if its content is of an unknown form.

    Content may be a list of parts (OpenAI's ``ChatCompletionContentPartText``, Mistral's and Anthropic's ``thinking`` beside
    ``text``). The function joins the text parts and drops reasoning, which it also does not read from ``reasoning_content``.
    """
    content = message.get("content")
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        return None
    found = []
    for part in content:
        if isinstance(part, str):
            found.append(part)
        elif not isinstance(part, Mapping):
            return None
        elif part.get("type", "text") in ("text", "output_text"):
            if not isinstance(part.get("text"), str):
                return None
            found.append(part["text"])
    return "".join(found)
