"""A model's chat template: the one place that renders it, in bounded time and memory, and checks that it writes its input.

Rendering happens in :mod:`tulu_eval.models.template_worker`, a process of its own. Whatever goes wrong there (it raises, does
not parse, never ends, takes all memory) becomes one line here.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tulu_eval import files
from tulu_eval.errors import DataError, PreflightError
from tulu_eval.models.file_tokenizer import FileTokenizer
from tulu_eval.records import Turn

SECONDS = 4.0
"""CPU seconds per process of the renderer; its start takes 0.1 s."""

SECONDS_EACH = 0.01
"""Further CPU seconds per conversation."""

WAIT = 8.0
"""Wall seconds to wait per CPU second, because the machine may be busy."""

CHARACTERS = 1 << 24
"""Largest number of characters for one process of the renderer."""

LONGEST_SOURCE = 1 << 20
"""Largest number of characters in a template; that of gpt-oss, the longest that we know, has 17 thousand."""

OWN_CHARACTERS = 1 << 20
"""Largest number of characters that a template may write beside its input."""

COPIES = 8
"""Largest ratio of output to input: HTML and JSON write up to six characters for one."""

ANY_DAY = "2000-01-01"
"""The day that a probe writes, so that a template's hash does not depend on today."""


class Conversation(NamedTuple):
    """Turns to render.

    Attributes:
        messages: The turns in order.
        opened: Whether to open the assistant's turn behind them.
        name: Name for error messages, such as ``item test-7``; empty for a probe.
    """

    messages: Sequence[Turn]
    opened: bool = True
    name: str = ""


class RenderedTurns(NamedTuple):
    """A conversation's text, or one line with the reason why there is none."""

    text: str
    error: str


class ChatTemplate:
    """A chat template with the special tokens that it may name.

    Args:
        source: The template in Jinja.
        variables: Special tokens by name, such as ``bos_token``.

    Attributes:
        dated: Whether it can write a date.
    """

    def __init__(self, source: str, variables: dict[str, str], model: str) -> None:
        if len(source) > LONGEST_SOURCE:
            raise PreflightError(f"the chat template of {model} has {len(source):,} characters, more than {LONGEST_SOURCE:,}")
        self.source, self._variables, self._model = source, variables, model
        self._hints: dict[str, str] = {}
        self.dated = "strftime_now" in source  # a global cannot be called in the sandbox without its name

    @classmethod
    def of(cls, tokenizer: Any, model: str) -> ChatTemplate | None:
        """Returns a tokenizer's chat template, ``None`` if it has none; messages name ``model``.

        Raises:
            PreflightError: If it has several templates and no default, or renders with code of its own.
        """
        if not isinstance(tokenizer, FileTokenizer) and _renders_itself(tokenizer):
            raise PreflightError(
                f"the tokenizer of {model} ({type(tokenizer).__name__}) writes conversations by code of its own, which is not "
                "run here; give the model a chat_template.jinja"
            )
        source = tokenizer.chat_template
        if not source:
            return None
        if isinstance(source, dict):
            if "default" not in source:
                raise PreflightError(
                    f"{model} has several chat templates and no default: {', '.join(sorted(map(str, source)))}"
                )
            source = source["default"]
        if not isinstance(source, str):
            raise PreflightError(f"the chat template of {model} is {type(source).__name__}, not text")
        variables = {str(key): str(value) for key, value in tokenizer.special_tokens_map.items()}
        return cls(source, variables, model)

    def attempt(self, conversations: Sequence[Conversation], date: str = ANY_DAY) -> list[RenderedTurns]:
        """Returns each conversation's text or the reason why there is none.

        ``date`` is the day that a dated template writes, YYYY-MM-DD.

        Raises:
            PreflightError: If the renderer runs out of time or memory.
        """
        return [self._checked(*pair) for pair in zip(conversations, self._answers(conversations, date), strict=True)]

    def render(self, conversations: Sequence[Conversation], date: str = ANY_DAY) -> list[str]:
        """Returns the text of each conversation; takes the arguments of :meth:`attempt`.

        Raises:
            PreflightError: If the template refuses a conversation, or does not write all of it in order.
        """
        texts = []
        for conversation, rendered in zip(conversations, self.attempt(conversations, date), strict=True):
            if rendered.error:
                raise PreflightError((f"{conversation.name}: " if conversation.name else "") + rendered.error)
            texts.append(rendered.text)
        return texts

    def _checked(self, conversation: Conversation, answer: dict[str, str]) -> RenderedTurns:
        if "text" not in answer:
            return RenderedTurns("", f"the chat template of {self._model} cannot be rendered: {answer['error']}")
        missing = missing_turn(answer["text"], conversation.messages)
        if missing is None:
            return RenderedTurns(answer["text"], "")
        what = f"the chat template of {self._model} does not write the {missing.role}'s text"
        return RenderedTurns("", what + self._hint(missing))

    def _hint(self, message: Turn) -> str:
        """Returns a hint if the template wants a text as one part of several, as models that see images do; else nothing."""
        if message.role not in self._hints:
            parts = {"role": message.role, "content": [{"type": "text", "text": "probe"}]}
            (answer,) = self._ask(self._order([[[parts], True]], ANY_DAY, len("probe")), 1)
            text = answer.get("text", "")
            found = "probe" in text and "'type'" not in text  # a list written out as Python does is no text either
            self._hints[message.role] = " (it wants it as a list of parts, which is not done here)" if found else ""
        return self._hints[message.role]

    def _answers(self, conversations: Sequence[Conversation], date: str) -> Iterator[dict[str, str]]:
        for chunk in _chunks(conversations):
            given = sum(map(_length, chunk))
            asked = [[[message._asdict() for message in one.messages], one.opened] for one in chunk]
            yield from self._ask(self._order(asked, date, given), len(chunk))

    def _order(self, conversations: list[Any], date: str, given: int) -> dict[str, Any]:
        """Returns what one process gets; ``given`` is the number of characters in the conversations."""
        return {
            "source": self.source,
            "variables": self._variables,
            "date": date,
            "longest": OWN_CHARACTERS + COPIES * given,
            "conversations": conversations,
        }

    def _ask(self, order: dict[str, Any], count: int) -> list[dict[str, str]]:
        """Returns one process's answers, one per conversation."""
        seconds, place = SECONDS + SECONDS_EACH * count, files.Place("the chat template's process")
        # -P keeps this folder, whose modules have names of packages, off the path.
        command = [sys.executable, "-P", str(Path(__file__).with_name("template_worker.py")), str(round(seconds))]
        try:
            done = subprocess.run(  # noqa: S603 - our own program
                command, input=json.dumps(order).encode(), capture_output=True, timeout=WAIT * seconds, check=False
            )
            found = files.parse_json(done.stdout, place, halves=True) if done.returncode == 0 else None
            answers = files.checked(found, list[dict[str, str]], place)
        except (subprocess.TimeoutExpired, DataError):
            answers = None
        if answers is None:
            raise PreflightError(
                f"the chat template of {self._model} cannot be rendered in {seconds:.0f} s and 2 GiB of memory; it was stopped"
            )
        return answers


def _renders_itself(tokenizer: Any) -> bool:
    """Returns whether a tokenizer of transformers writes conversations by code of its own."""
    from transformers import PreTrainedTokenizerBase

    return type(tokenizer).apply_chat_template is not PreTrainedTokenizerBase.apply_chat_template


def missing_turn(text: str, turns: Sequence[Turn]) -> Turn | None:
    """Returns the first turn that a rendered text does not hold, ``None`` if it holds all.

    Each turn has to stand behind the one before, so that a short answer is not taken for written because a later question has
    the same word. The system's text may stand anywhere: Mistral's templates write it into the last user turn.
    """
    at = 0
    for turn in turns:
        end = end_of(text, turn.content, 0 if turn.role == "system" else at)
        if end is None:
            return turn
        at = at if turn.role == "system" else end
    return None


def end_of(text: str, content: str, start: int = 0) -> int | None:
    """Returns where a content ends in a rendered text, ``None`` if the text does not hold it behind ``start``.

    A template may strip a content or escape its punctuation (as HTML or JSON), so the text has to hold the content without
    white space around it or, in their order, its words.
    """
    bare = content.strip()
    found = text.find(bare, start)
    if found >= 0:
        return found + len(bare)
    at, words = start, re.findall(r"[^\W_]+", bare)
    for word in words:
        found = text.find(word, at)
        if found < 0:
            return None
        at = found + len(word)
    return at if words else None


def opened_reasoning(tail: str) -> str:
    """Returns the tag of a reasoning block that is open at a prompt's end; empty for none.

    Tags of released templates: ``<think>`` (DeepSeek-R1, QwQ, Qwen3-Thinking), ``<seed:think>``, ``[THINK]``, ``<reasoning>``,
    ``<|begin_of_thought|>``, ``<|START_THINKING|>``, and the channels ``analysis`` and ``thought``. A block that is closed at
    once (Qwen3 with thinking switched off) is not open. ``tail`` is the text that the template writes behind the user's
    content.
    """
    text = tail.rstrip()
    channel = re.search(r"<\|?channel\|?>\s{0,4}(?:analysis|thought|thinking)\s{0,4}(?:<\|?message\|?>)?$", text)
    if channel:
        return channel[0]
    tag = re.search(r"[<\[◁][^<>\[\]◁▷\s]{1,40}[>\]▷]$", text)
    if tag and re.search(r"think|thought|reason|scratchpad", tag[0], re.IGNORECASE):
        closing = re.search(r"/|(?<![a-z])(?:end|stop|close|no)(?![a-z])", tag[0], re.IGNORECASE)
        return "" if closing else tag[0]
    return ""


def _length(conversation: Conversation) -> int:
    return sum(len(message.content) for message in conversation.messages)


def _chunks(conversations: Sequence[Conversation]) -> Iterator[list[Conversation]]:
    """Yields groups of at least one conversation and at most :data:`CHARACTERS` characters."""
    chunk: list[Conversation] = []
    size = 0
    for one in conversations:
        length = _length(one)
        if chunk and size + length > CHARACTERS:
            yield chunk
            chunk, size = [], 0
        chunk.append(one)
        size += length
    if chunk:
        yield chunk
