"""Reads rows of several forms as conversations of ``{"role": ..., "content": ...}``.

- Tulu and OpenAI: ``messages``, or ``chosen`` and ``rejected``; each is a whole conversation. The pairs of
  allenai/tulu-2.5-preference-data (@6e87e7b) have these, ``source``, and where they come from ratings ``margin``
  (hamishivi/EasyLM @ dbf2212c, ``convert_preference_data.py``); allenai/tulu-v2-sft-mixture (@9a0e786) has ``messages``,
  ``dataset`` and ``id``. The columns of allenai/tulu-2.5-prompts could not be read; EasyLM's reader takes any of the first
  five of :data:`PROMPT_KEYS`, and so does this one.
- TRL (1.12, docs ``dataset_formats``): ``prompt`` with ``completion``, or with ``chosen`` and ``rejected``, as texts or as
  messages; the answers do not repeat the prompt. Without ``prompt``, both sides are whole conversations. In
  HuggingFaceH4/ultrafeedback_binarized they are whole, and the text of the prompt is also a field.
- ShareGPT: ``conversations`` of ``{"from": "human", "value": ...}``; the system message may be a field ``system``. In pairs
  (LLaMA-Factory) they are the prompt, and ``chosen`` and ``rejected`` one turn each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tulu_eval.errors import DataError
from tulu_eval.files import Row
from tulu_eval.training.text import ROLES, Message

PROMPT_KEYS = ("instruction", "history_messages", "messages", "conversation", "chosen", "conversations", "prompt")
"""Fields with a prompt, in order of preference: EasyLM's (@ dbf2212c, ``TuluPromptDataset``) in its order, then ShareGPT's and
TRL's."""

_SHAREGPT = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
"""Roles by the value of ``from``."""

_TEXTS = ("instruction", "prompt")
"""Fields that may be a text by the user instead of messages."""


def conversation(row: Row) -> list[Message]:
    """Returns the conversation of a row for SFT; raises DataError if the row has none of the forms."""
    if "messages" in row.data:
        return messages(row, "messages")
    if "conversations" in row.data:
        return messages(row, "conversations")
    if "completion" in row.data:
        return side(row, "completion")
    raise _without(row, "messages, conversations, or prompt with completion")


def side(row: Row, key: str) -> list[Message]:
    """Returns the whole conversation of one side of a pair, including the prompt.

    Raises:
        DataError: If the row has none of the forms.
    """
    if key not in row.data:
        raise _without(row, "prompt with completion" if key == "completion" else "chosen and rejected, alone or with prompt")
    if "prompt" not in row.data and "conversations" in row.data and isinstance(row.data.get(key), dict):
        turns = [*messages(row, "conversations"), row.data[key]]
        return messages(Row(row.place, {"conversations": turns}), "conversations")
    if "prompt" not in row.data:
        return messages(row, key)
    answer: Any = row.data.get(key)
    prompt = row.data["prompt"]
    found: list[Message] = [{"role": "assistant", "content": answer}] if isinstance(answer, str) else messages(row, key)
    if found[0]["role"] == "assistant":
        return [*messages(row, "prompt"), *found]
    if isinstance(prompt, list) and found[: len(prompt)] != messages(row, "prompt"):
        raise row.error(f"{key} neither begins with the prompt's messages nor with an assistant's")
    return found


def prompt_of(row: Row) -> list[Message]:
    """Returns the prompt of a row: a conversation up to the last user's message, without a recorded answer (EasyLM).

    Raises:
        DataError: If the row has none of the forms, or its prompt does not end with a user's message.
    """
    key = next((key for key in PROMPT_KEYS if key in row.data), None)
    if key is None:
        raise _without(row, ", ".join(PROMPT_KEYS))
    found = side(row, key) if key == "chosen" else messages(row, key)
    prompt = found[:-1] if found[-1]["role"] == "assistant" else found
    if not prompt or prompt[-1]["role"] != "user":
        raise row.error("a prompt must end with a user's message")
    return prompt


def messages(row: Row, key: str) -> list[Message]:
    """Returns the conversation in a field; raises DataError if the field is not a conversation."""
    value = row.data.get(key)
    if key in _TEXTS and isinstance(value, str):
        return [{"role": "user", "content": value}]
    if not isinstance(value, list) or not value:
        raise row.error(f"no list of messages under {key!r}; its columns: {_columns(row)}")
    if key == "conversations":
        value = _of_sharegpt(row, value)
    for place, message in enumerate(value):
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            raise row.error(f'{key}[{place}] is not {{"role": ..., "content": text}}')
        if message.get("role") not in ROLES:
            raise row.error(f"{key}[{place}] has role {message.get('role')!r}; known: {', '.join(ROLES)}")
        if message["role"] == "system" and place:
            raise row.error(f"{key}[{place}] is a system message but not the first")
    return value


def _without(row: Row, expected: str) -> DataError:
    """Returns the error of a row that has none of the columns of its stage."""
    return row.error(f"none of the columns {expected}; its columns: {_columns(row)}")


def _columns(row: Row) -> str:
    return ", ".join(sorted(map(str, row.data))) or "none"


def _of_sharegpt(row: Row, turns: Sequence[Any]) -> list[Any]:
    """Returns ShareGPT's turns as messages; does not change turns that are messages."""
    found: list[Any] = []
    for place, turn in enumerate(turns):
        if not isinstance(turn, dict) or "from" not in turn:
            found.append(turn)
        elif not isinstance(turn.get("value"), str):
            raise row.error(f'conversations[{place}] is not {{"from": ..., "value": text}}')
        elif turn["from"] not in tuple(_SHAREGPT):
            raise row.error(f"conversations[{place}] is from {turn['from']!r}; known: {', '.join(_SHAREGPT)}")
        else:
            found.append({"role": _SHAREGPT[turn["from"]], "content": turn["value"]})
    system = row.data.get("system")
    if isinstance(system, str) and system.strip():
        found.insert(0, {"role": "system", "content": system})
    return found
