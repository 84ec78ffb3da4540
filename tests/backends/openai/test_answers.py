"""What an answer comes to: every server's words for an end, content in parts, stop strings, token ids."""

from __future__ import annotations

from typing import Any

import pytest

from tulu_eval.backends.openai.answers import AnswerError, from_text, read_choice, token_ids_of
from tulu_eval.records import Completion, Decoding, Request

REQUEST = Request("k", (), "")


def made(choice: dict[str, Any], *stop: str) -> Completion:
    return from_text(choice, (), REQUEST, Decoding(9, stop=stop))[0]


def test_a_text_is_cut_at_a_stop_string() -> None:
    done = made({"text": "one\n\ntwo", "finish_reason": "stop"}, "\n\n")
    assert (done.text, done.finish_reason, done.error) == ("one", "stop", "")


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        *((word, "stop") for word in ("stop", "eos", "eos_token", "end_turn", "stop_sequence", "STOP", "COMPLETE", "End-Turn")),
        *((word, "length") for word in ("length", "max_tokens", "MAX_TOKENS", "model_length")),
        *((word, "unknown") for word in (None, "", "tool_calls", "function_call", "done", 7, ["stop"], "\x1b[31mstop\x07")),
        *((word, "error") for word in ("content_filter", "SAFETY", "abort", "error", "insufficient_system_resource")),
    ],
)
@pytest.mark.parametrize("chat", [True, False])
def test_no_word_for_an_end_costs_the_text(word: Any, reason: str, chat: bool) -> None:
    said = {"message": {"content": "So the answer is 18."}} if chat else {"text": "So the answer is 18."}
    done = made({**said, "finish_reason": word})
    assert (done.text, done.finish_reason) == ("So the answer is 18.", reason)
    assert bool(done.error) is (reason in ("unknown", "error"))
    assert done.error.isprintable()


def test_what_a_server_broke_off_is_asked_for_again_and_what_a_filter_cut_is_not() -> None:
    retries = {word: from_text({"text": "x", "finish_reason": word}, (), REQUEST, Decoding(9))[1]
               for word in ("stop", None, "what", "content_filter", "abort", "error")}  # fmt: skip
    assert retries == {"stop": False, None: False, "what": False, "content_filter": False, "abort": True, "error": True}


THINKING = {"type": "thinking", "thinking": [{"type": "text", "text": "is it 5?"}]}


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": "plain"}, "plain"),
        ({"content": [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]}, "one two"),
        ({"content": [THINKING, {"type": "text", "text": "18"}]}, "18"),
        ({"content": [{"type": "output_text", "text": "18"}, "!"]}, "18!"),
        ({"content": [{"text": "18"}]}, "18"),
        ({"content": []}, ""),
        ({"content": None}, ""),
        ({}, ""),
        ({"content": None, "reasoning_content": "So the answer is 18."}, ""),
        ({"content": None, "refusal": "No."}, "No."),
        ({"content": "", "refusal": None}, ""),
    ],
)
def test_content_in_every_form(message: dict[str, Any], text: str) -> None:
    assert made({"message": message, "finish_reason": "stop"}).text == text


@pytest.mark.parametrize(
    "choice",
    [
        {}, {"message": "x"}, {"text": 5}, {"text": ["x"]}, {"message": {"refusal": {"a": 1}}},
        *({"message": {"content": content}} for content in (5, {"text": "x"}, [5], [{"type": "text", "text": 5}])),
    ],
)  # fmt: skip
def test_what_is_no_text_is_asked_for_again(choice: dict[str, Any]) -> None:
    with pytest.raises(AnswerError) as caught:
        made({**choice, "finish_reason": "stop"})
    assert caught.value.retry


@pytest.mark.parametrize("ids", ["12", [1.5], [True], [-1], {"a": 1}])
def test_token_ids_that_are_none(ids: Any) -> None:
    with pytest.raises(AnswerError):
        token_ids_of({"token_ids": ids})


def test_an_index_may_be_left_out() -> None:
    for index in ({}, {"index": 0}, {"index": None}):
        assert read_choice({"choices": [{"text": "x", **index}], "model": "m"}, "text") == ({"text": "x", **index}, None, "m")


@pytest.mark.parametrize("choices", [None, [], "x", [5], [{"index": 1}], [{}, {}], [{"index": "\x1b[2J" * 99}]])
def test_not_exactly_one_choice_is_one_line(choices: Any) -> None:
    with pytest.raises(AnswerError) as caught:
        read_choice({"choices": choices}, "chat")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 100
