"""What an answer's fields mean, whichever server's words they are in."""

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
"""Servers' words for an end, in lower case. OpenAI's: ``openai`` 3.54.0, ``types/chat/chat_completion.py``; text-generation-
inference: ``eos_token``, ``stop_sequence``; Anthropic: ``end_turn``, ``max_tokens``, ``refusal``, ...; Mistral:
``model_length``; DeepSeek: ``insufficient_system_resource``; vLLM: ``abort``, ``error``; Cohere, Gemini, Zhipu, Bedrock: as
litellm @ 004c2c43 lists them, ``litellm_core_utils/core_helpers.py``. That list takes ``error`` for ``stop``; this does not."""


def filtered(word: Any) -> bool:
    """Whether a ``finish_reason`` says that a filter cut an answer off."""
    return _plain(word) in _FILTERED


def _plain(word: Any) -> str:
    return str(word).lower().replace("-", "_")


class End(NamedTuple):
    """How an answer ended.

    Attributes:
        reason: In our words. A word that is not known is ``unknown``: its text is an answer like any other.
        detail: One line, where it is neither ``stop`` nor ``length``.
        retry: Whether the server broke it off for a reason of its own, so that another try may end well.
    """

    reason: FinishReason
    detail: str = ""
    retry: bool = False


def end_of(word: Any) -> End:
    """Returns how an answer ended, from its ``finish_reason``, whose text has been made safe.

    A filter's cut is an ``error``, though its text is kept: it was not the model that ended there, so a grade would be of
    the filter. A call of a tool is an end like an unknown one: none was offered, and what text there is is the answer.
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
    """Returns a message's text; empty where its content is null, None where it is nothing that can be read.

    Content may be a list of parts (OpenAI's ``ChatCompletionContentPartText``, Mistral's and Anthropic's ``thinking`` beside
    ``text``): the parts of text are joined, and reasoning is left out as it is where it stands in ``reasoning_content``.
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
