"""Prompts for a server: one turn as its content, several as JSON, a base model's as text."""

from __future__ import annotations

import pytest

from tulu_eval.benchmarks.base import Prompt
from tulu_eval.errors import PreflightError
from tulu_eval.models.base import Served
from tulu_eval.models.server import Server
from tulu_eval.models.server_request import RequestForm
from tulu_eval.models.text_writer import TextWriter
from tulu_eval.records import Decoding, Request, Turn

ONE = Prompt("2+2?", "Answer:", "Q: 2+2?\nA:")
TWO = Prompt("2+2?", "", "Q: 2+2?\nA:", (Turn("user", "1+1?"), Turn("assistant", " 2")))


def test_turns_and_texts() -> None:
    chat, plain = TextWriter(turns=True), TextWriter(turns=False)
    assert chat.texts([ONE, TWO], ["a", "b"]) == [
        "2+2?",
        '[{"content":"1+1?","role":"user"},{"content":" 2","role":"assistant"},{"content":"2+2?","role":"user"}]',
    ]
    assert plain.texts([ONE, TWO], ["a", "b"]) == ["Q: 2+2?\nA:"] * 2
    assert chat.encode(["2+2?"], ["a"]) == [()]


def test_a_server_that_is_sent_turns_gets_no_plain_text() -> None:
    plain = TextWriter(turns=False)
    assert plain.without_template() is plain
    with pytest.raises(PreflightError, match="--prompts text"):
        TextWriter(turns=True).without_template()


def test_the_hash_is_another_where_prompts_have_several_turns() -> None:
    chat, plain = TextWriter(turns=True), TextWriter(turns=False)
    assert chat.template_of([ONE]) == chat.template
    assert chat.template_of([ONE, TWO]).sha256 != chat.template.sha256
    assert plain.template_of([ONE, TWO]) == plain.template


def test_a_server_gets_all_turns_as_messages() -> None:
    form = RequestForm(Served("http://h/v1", "m", "chat"), Server("unknown", {}), (), 0)
    (text,) = TextWriter(turns=True).texts([TWO], ["a"])
    body = form.body(Request("k", (), text, TWO.turns), Decoding(8))
    assert body["messages"] == [
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": " 2"},
        {"role": "user", "content": "2+2?"},
    ]
    assert form.body(Request("k", (), "2+2?"), Decoding(8))["messages"] == [{"role": "user", "content": "2+2?"}]
