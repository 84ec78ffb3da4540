"""What a server says, made safe: keys, control characters, lone surrogates, and the cause of an error in any form."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tulu_eval.endpoint.said import Redactor, error_in, one_line, status_in, words_of

KEY = 'sk-"a\\b+c/d=='


@settings(deadline=None)
@given(st.text(), st.integers(1, 200))
def test_one_line(text: str, limit: int) -> None:
    line = one_line(text, limit)
    assert len(line) <= limit
    assert line.isprintable()


@pytest.mark.parametrize("form", [KEY, json.dumps(KEY)[1:-1], "sk-%22a%5Cb%2Bc%2Fd%3D%3D"])
def test_a_key_is_taken_out_in_every_form_and_place(form: str) -> None:
    hidden = Redactor(KEY)
    data = {form: [{"x": f"a {form} b"}, 5, None, True, 1.5], "deep": [[[form]]]}
    assert hidden.data(data) == {"[key]": [{"x": "a [key] b"}, 5, None, True, 1.5], "deep": [[["[key]"]]]}
    assert hidden.found
    assert form not in hidden.line(f"it was {form}, and cut {'x' * 200}")


def test_a_short_key_is_no_secret_in_a_text_but_goes_from_messages() -> None:
    hidden = Redactor("EMPTY")
    assert hidden.text("The set is EMPTY.") == "The set is EMPTY."
    assert not hidden.found
    assert hidden.line("bad key EMPTY") == "bad key [key]"
    assert Redactor("").line("as it is") == "as it is"


def test_half_a_surrogate_pair_becomes_a_character_that_files_take() -> None:
    said = json.loads('["a\\ud800b", "\\ud83d\\ude00", "\\udc00"]')
    assert Redactor("").data(said) == ["a�b", "\N{GRINNING FACE}", "�"]


FASTAPI = {"detail": [{"type": "extra_forbidden", "loc": ["body", "top_k"], "msg": "Extra inputs are not permitted"}]}


@pytest.mark.parametrize(
    ("data", "message", "code"),
    [
        ({"error": {"message": "no", "code": "bad", "type": "t"}}, "no", "bad"),
        ({"error": {"message": "no", "code": None, "type": "t"}}, "no", "t"),
        ({"error": "no"}, "no", ""),
        ({"error": {"code": 429, "message": "slow"}}, "slow", "429"),
        ({"object": "error", "message": "no", "code": 40303}, "no", "40303"),
        (FASTAPI, "body.top_k: Extra inputs are not permitted", "extra_forbidden"),
        ({"detail": FASTAPI["detail"] * 3}, "body.top_k: Extra inputs are not permitted (and 2 more)", "extra_forbidden"),
        ({"detail": "Not Found"}, "Not Found", ""),
        ({"title": "Bad", "detail": "too long", "status": 400}, "too long", ""),
        ({"message": {"detail": [{"loc": [], "msg": "deep"}]}}, "deep", ""),
        ({"errors": [{"message": "one"}, {"message": "two"}]}, "one (and 1 more)", ""),
        ({"error": {}}, "", ""),
        ({"error": []}, "", ""),
        ([], "", ""),
        (5, "", ""),
        ("plain", "plain", ""),
    ],
)
def test_the_cause_of_an_error_in_every_form(data: Any, message: str, code: str) -> None:
    assert error_in(data) == (message, code)


def test_a_status_inside_an_error() -> None:
    assert status_in({"error": {"code": 429}}) == 429
    assert status_in({"error": {"code": "503"}}) == 503
    assert status_in({"object": "error", "code": 400}) == 400
    assert status_in({"error": {"code": "rate_limit"}}) == 0
    assert status_in({"error": {"code": 200, "status": None}}) == 0


def test_a_page_says_its_title() -> None:
    page = b"<html>\n<head><title>502 Bad Gateway</title></head><body><h1>502</h1><hr>nginx</body></html>"
    assert one_line(words_of(page)) == "502 Bad Gateway"
    assert one_line(words_of(b"<p>Out of <b>order</b> &amp; closed</p>")) == "Out of order & closed"
    assert one_line(words_of(b"plain \xff words")) == "plain � words"


@pytest.mark.parametrize("piece", [b"<", b"<title", b"<a ", b"&amp", b"<title>", b"<h1 "])
def test_a_hostile_page_takes_no_time(piece: bytes) -> None:
    began = time.perf_counter()
    one_line(words_of(b"<" + piece * 300_000))
    assert time.perf_counter() - began < 2
