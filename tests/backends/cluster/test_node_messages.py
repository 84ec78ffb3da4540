"""What a node sends is read as the record that it should be, or it is garbage, in one safe line."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest

from tulu_eval.backends.base import Usage
from tulu_eval.backends.cluster import node_messages
from tulu_eval.backends.cluster.node_messages import ActorPlace, AnswerBatch, GarbageError, Loaded, NodeReport, read, written
from tulu_eval.logprobs import Choice, Scores
from tulu_eval.records import Completion, Likelihood

ANSWER = Completion("k", "text \u00e9", (1, 2), "stop", 0.5)


@pytest.mark.parametrize(
    "message",
    [
        ActorPlace("n", {"ray": "2.60"}),
        NodeReport("no model"),
        Loaded({"dtype": "float32"}, counts=True),
        AnswerBatch((ANSWER, dataclasses.replace(ANSWER, finish_reason="error", error="why")), last=True, usage=Usage(1, 2.0)),
        AnswerBatch(choices=(Choice("k", (-0.5,), 1.0),)),
        AnswerBatch(scores=(Scores("k", (Likelihood("a", (-0.5, -1.0)),), 1.0),), failure="why"),
    ],
)
def test_what_is_written_is_read(message: Any) -> None:
    assert read(written(message), type(message)) == message


def raw(**changes: Any) -> bytes:
    answer = msgspec.to_builtins(ANSWER) | changes
    return msgspec.msgpack.encode({"completions": [answer]})


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"\xc1" * 100, "sent what is no AnswerBatch: "),
        (b"", "sent what is no AnswerBatch: "),
        (b"\x91" * 10_000_000, "sent what is no AnswerBatch: "),
        (AnswerBatch(), "sent a AnswerBatch in place of a message"),
        (ZeroDivisionError(), "sent a ZeroDivisionError in place of a message"),
        (bytearray(1), "sent a bytearray in place of a message"),
        (type("\x1b[2J" * 1000, (), {})(), "sent a ?[2J"),
        (None, "sent a NoneType in place of a message"),
        (raw(finish_reason="\x1b[2Jstop"), r"Invalid enum value '\x1b[2Jstop'"),
        (raw(finish_reason="x\n" * 1_000_000), "sent what is no AnswerBatch: Invalid enum value 'x"),
        (raw(token_ids=["1"]), "Expected `int`, got `str`"),
        (raw(token_ids=[1.5]), "Expected `int`, got `float`"),
        (raw(token_ids=[True]), "Expected `int`, got `bool`"),
        (raw(text=None), "Expected `str`, got `None`"),
        (raw(text=b"\xff"), "Expected `str`, got `bytes`"),
        (raw(likelihoods=[{"text": "a"}]), "missing required field `logprobs`"),
        (msgspec.msgpack.encode({"failure": "x" * 5000}), "Expected `str` of length <= 4096"),
        (msgspec.msgpack.encode({"usage": {"decode_seconds": float("nan")}}), "numbers of tokens or seconds that cannot be"),
        (msgspec.msgpack.encode({"usage": {"decode_tokens": -1}}), "numbers of tokens or seconds that cannot be"),
    ],
)
def test_all_else_is_garbage_in_one_line(sent: object, said: str) -> None:
    with pytest.raises(GarbageError) as caught:
        read(sent, AnswerBatch)
    assert said in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


def test_facts_have_a_size() -> None:
    for facts in ({"a": "x" * 5000}, dict.fromkeys(map(str, range(65)), ""), {"a": 1}):
        with pytest.raises(GarbageError, match="sent what is no Loaded"):
            read(msgspec.msgpack.encode({"facts": facts, "counts": False}), Loaded)


def test_a_message_has_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_messages, "MOST_BYTES", 10)
    with pytest.raises(GarbageError, match="sent a message of 11 bytes"):
        read(b"x" * 11, AnswerBatch)
