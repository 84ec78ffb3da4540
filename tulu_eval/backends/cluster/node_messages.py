"""What a node's actor says to the driver: typed records, sent as bytes and read as nothing else.

Ray unpickles what a node sends before anybody can look at it (2.60, ``_private/serialization.py``), so whoever rules a node
rules the driver too: a cluster is trusted as this machine is. What is read here is a node's that is wrong, not a wicked one's.
An honest actor returns bytes; anything else, and bytes that are not the record of the question, are a :class:`GarbageError`.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from tulu_eval.backends.base import Usage
from tulu_eval.errors import printable
from tulu_eval.logprobs import Choice, Scores
from tulu_eval.records import Completion

Answer = Completion | Choice | Scores

MOST_BYTES = 1 << 30
"""Largest message; 512 answers of 32,768 tokens have a sixth of it."""

MOST_SHOWN = 300
"""Characters of what a node says that get into a message to the user, or into a ledger."""

Text = Annotated[str, Meta(max_length=4096)]
Facts = Annotated[dict[Text, Text], Meta(max_length=64)]


class GarbageError(Exception):
    """What a node sent is no answer to what it was asked; one line that goes on after the node's name."""


@dataclasses.dataclass(frozen=True, slots=True)
class ActorPlace:
    """Where an actor is: Ray's name of the node, and the versions of the programs there."""

    node: Text
    versions: Facts


@dataclasses.dataclass(frozen=True, slots=True)
class NodeReport:
    """What a look at a node found; ``trouble`` is one line, empty if the model is there and the same."""

    trouble: Text


@dataclasses.dataclass(frozen=True, slots=True)
class Loaded:
    """How loading a model went.

    Attributes:
        facts: What the engine says of itself.
        counts: Whether it counts its tokens and seconds.
        refusal: One line if the node cannot do it, and could not a second time; of a reload, also if it never can.
        refused: Whether it is not loaded.
    """

    facts: Facts
    counts: bool
    refusal: Text = ""
    refused: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class AnswerBatch:
    """Answers of a job, in the order in which the engine gave them; those of a job are of one kind.

    Attributes:
        last: Whether the job is done.
        usage: What the whole job used, after its last answer; ``None`` before, or if the engine does not count.
        failure: One line if the engine failed; its other answers will not come.
    """

    completions: tuple[Completion, ...] = ()
    choices: tuple[Choice, ...] = ()
    scores: tuple[Scores, ...] = ()
    last: bool = False
    usage: Usage | None = None
    failure: Text = ""

    @property
    def answers(self) -> tuple[Answer, ...]:
        """The answers of the job's kind."""
        return self.completions or self.choices or self.scores


M = TypeVar("M", ActorPlace, NodeReport, Loaded, AnswerBatch)


def shown(text: str) -> str:
    """Returns what a node says as one line that is safe on a terminal, at most :data:`MOST_SHOWN` characters."""
    return printable(" ".join(text[: 10 * MOST_SHOWN].split()))[:MOST_SHOWN]


def written(message: ActorPlace | NodeReport | Loaded | AnswerBatch) -> bytes:
    """Returns a message as bytes; raises TypeError, ValueError or OverflowError if it holds what no such message has."""
    return msgspec.msgpack.encode(message)


def read(raw: object, kind: type[M]) -> M:
    """Returns the message in what an actor returned; raises GarbageError if it is no message of the kind."""
    if not isinstance(raw, bytes):
        raise GarbageError(f"sent a {shown(type(raw).__name__)} in place of a message")
    if len(raw) > MOST_BYTES:
        raise GarbageError(f"sent a message of {len(raw):,} bytes")
    try:
        message = msgspec.msgpack.decode(raw, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise GarbageError(f"sent what is no {kind.__name__}: {shown(str(error))}") from error
    if isinstance(message, AnswerBatch) and message.usage is not None:
        counts = dataclasses.astuple(message.usage)
        if not all(math.isfinite(one) and 0 <= one < 1e15 for one in counts):
            raise GarbageError("sent numbers of tokens or seconds that cannot be")
    return message
