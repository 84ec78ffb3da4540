"""Addresses, keys and waits of an endpoint."""

from __future__ import annotations

import time

import pytest

from tulu_eval.endpoint.client import Client, retry_after
from tulu_eval.endpoint.wire import key_for, parse_base_url
from tulu_eval.errors import UserError

NAME = "TULU_EVAL_JUDGE_KEY"


def test_retry_after_forms():
    assert retry_after({"retry-after": "2"}) == 2.0
    assert retry_after({"retry-after": "0.5"}) == 0.5
    assert retry_after({}) is None
    assert retry_after({"retry-after": "soon"}) is None
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 20))
    assert 17 < (retry_after({"retry-after": date}) or 0) < 21


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://host/v1",
        "host:80",
        "http://",
        "http://user:secret@host/v1",
        "http://host/v1?key=secret",
        "http://host:port/v1",
    ],
)
def test_a_bad_base_url_is_one_line_without_its_secrets(url):
    with pytest.raises(UserError) as caught:
        Client(url)
    assert "secret" not in str(caught.value)


def test_a_key_with_a_line_break_is_not_shown():
    with pytest.raises(UserError) as caught:
        Client("http://127.0.0.1:1/v1", key="sk-abc\ndef")
    assert "sk-abc" not in str(caught.value)


def test_a_key_goes_only_where_it_belongs():
    keys = {"OPENAI_API_KEY": "sk-openai", "TULU_EVAL_JUDGE_KEY": ""}
    assert key_for(parse_base_url("https://api.openai.com/v1"), keys, NAME) == "sk-openai"
    assert key_for(parse_base_url("http://127.0.0.1:8000/v1"), keys, NAME) == ""
    assert key_for(parse_base_url("https://api.openai.com.example.org/v1"), keys, NAME) == ""
    assert key_for(parse_base_url("http://127.0.0.1:8000/v1"), {**keys, "TULU_EVAL_JUDGE_KEY": "mine"}, NAME) == "mine"
    with pytest.raises(UserError, match="environment variable OPENAI_API_KEY"):
        key_for(parse_base_url("https://api.openai.com/v1"), {}, NAME)
