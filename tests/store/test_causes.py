"""Failures that are alike are one cause."""

from __future__ import annotations

import time

import pytest

from tulu_eval.store.causes import Cause, commonest, kind_of

SAME = [
    ("HTTP 500: request req_8f3a21bc failed", "HTTP 500: request req_11c9e0aa failed"),
    ("connection: refused at 127.0.0.1:40121", "connection: refused at 127.0.0.1:8000"),
    ("timeout: no complete answer within 0.5 s", "timeout: no complete answer within 600 s"),
    ("half: the connection closed after 12 bytes of the answer", "half: the connection closed after 65536 bytes of the answer"),
    ("HTTP 429: try again in 20s (id chatcmpl-9aXq2Zb81)", "HTTP 429: try again in 3s (id chatcmpl-77abcdefg)"),
    ("id 123e4567-e89b-12d3-a456-426614174000  is gone", "id 9f8e7d6c-0a1b-4c2d-8e3f-1234567890ab is gone"),
]
OTHER = [
    ("HTTP 500: no", "HTTP 503: no"),
    ("HTTP 200 with error 429: no", "HTTP 200 with error 400: no"),
    ("HTTP 422: body.n: not permitted", "HTTP 422: body.top_k: not permitted"),
    ("the server ended it for 'a'", "the server ended it for 'b'"),
    ("llama3 is not here", "llama2 is not here"),
]


@pytest.mark.parametrize(("one", "two"), SAME)
def test_ids_ports_and_counts_do_not_tell_causes_apart(one: str, two: str) -> None:
    assert kind_of(one) == kind_of(two)


@pytest.mark.parametrize(("one", "two"), OTHER)
def test_statuses_fields_and_names_do(one: str, two: str) -> None:
    assert kind_of(one) != kind_of(two)


def test_the_commonest_is_said_as_it_was_first_said() -> None:
    errors = ["HTTP 404: gone", *(f"HTTP 500: request req_{n:08x} failed" for n in range(7)), "HTTP 404: gone"]
    found = commonest(errors)
    assert found == Cause("HTTP 500: request req_00000000 failed", 7, 9)
    assert str(found) == "HTTP 500: request req_00000000 failed (7 of 9)"
    assert commonest([]) is None
    assert commonest(["b", "a"]) == Cause("b", 1, 2)


def test_a_cause_of_any_length_takes_no_time() -> None:
    began = time.perf_counter()
    commonest(["9" * 1_000_000, "HTTP " * 200_000, "a1" * 500_000])
    assert time.perf_counter() - began < 1
