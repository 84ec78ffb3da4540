"""What a benchmark asks of a model, and the form in which a template writes it."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Literal, Protocol, get_args

from tulu_eval.errors import PreflightError
from tulu_eval.models.tokenizer_calls import check_text
from tulu_eval.records import Role, Turn

Form = Literal["tulu", "chat", "plain", "served"]

PROBE = "probe"
"""The turn whose rendering is hashed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Template:
    """How turns become text.

    Attributes:
        form: Which of the three forms; ``served`` if a server applies a template of its own, which is not known here.
        sha256: Hash of one rendered probe turn (of several if the prompts have several), so that equal renderings have equal
            hashes whatever their source. A template that writes the date writes :data:`~tulu_eval.models.template.ANY_DAY`
            there, so the hash has no date in it.
        source: ``tokenizer``, ``registry``, ``server``, ``asked for`` or ``none``.
        date: Day that the template wrote, YYYY-MM-DD: the day on which the run started; empty if it writes none.
        reasoning: Tag of a reasoning block that the template opens at the prompt's end, such as ``<think>``; empty for none.
    """

    form: Form
    sha256: str
    source: str
    date: str = ""
    reasoning: str = ""


class Asked(Protocol):
    """What a benchmark asks, before a template is applied: turns, what the answer starts with, a base model's form."""

    @property
    def turns(self) -> Sequence[Turn]: ...  # noqa: D102
    @property
    def prefill(self) -> str: ...  # noqa: D102
    @property
    def plain(self) -> str: ...  # noqa: D102


def render_tulu(turns: Sequence[Turn], eos: str = "") -> str:
    """Returns turns and the assistant's tag, as the template of the Tulu 2 and 2.5 repositories writes them.

    ``eos``, the end-of-sequence token, stands behind each of the assistant's contents.

    Raises:
        PreflightError: If a turn is the system's, which that template leaves out.
    """
    if any(turn.role == "system" for turn in turns):
        raise PreflightError("the Tulu template has no form for a system prompt")
    written = [f"<|{turn.role}|>\n{turn.content}{eos if turn.role == 'assistant' else ''}\n" for turn in turns]
    return "".join(written) + "<|assistant|>\n"


TULU_PROBE = render_tulu([Turn("user", PROBE)])


def probe_of(asked: Sequence[Asked]) -> list[Turn]:
    """Returns the turns whose rendering is hashed: one, or, if prompts have several, a turn per role and the user's last."""
    roles = {turn.role for one in asked for turn in one.turns[:-1]}
    return [Turn(role, f"{role}'s {PROBE}") for role in get_args(Role) if role in roles] + [Turn("user", PROBE)]


def check_asked(asked: Sequence[Asked], names: Sequence[str]) -> None:
    """Raises PreflightError if a text has half a character, or a turn another role than a conversation has."""
    for one, name in zip(asked, names, strict=True):
        check_text(name, *(turn.content for turn in one.turns), one.prefill, one.plain)
        for turn in one.turns:
            if turn.role not in get_args(Role):
                raise PreflightError(f"{name}: a turn's role is {turn.role!r}, not one of {', '.join(get_args(Role))}")


def text_hash(text: str) -> str:
    """Returns the sha256 (64 hex digits) of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
