"""Records are the same after a round trip, and their hashes depend on content alone."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulu_eval.records import Decoding, Result, content_hash, to_json

RESULT = Result(
    "gsm8k", "published", "last-number", "exact_match", 48.5, 200, 200, 200, 41.7, 55.4, "wilson95", {"ok": 200}, "sig"
)


def test_result_round_trip() -> None:
    assert Result.from_json(json.loads(to_json(RESULT))) == RESULT


@pytest.mark.parametrize(
    "change",
    [{"value": "48.5"}, {"n": 200.0}, {"n": True}, {"extra": 1}, {"signature": None, "low": None}],
)
def test_a_result_of_another_form_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"is not a|differ"):
        Result.from_json({**dataclasses.asdict(RESULT), **change})


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.none()))
def test_hash_does_not_depend_on_the_order_of_keys(data: dict[str, object]) -> None:
    assert content_hash(data) == content_hash(dict(reversed(list(data.items()))))


def test_decoding_knows_greedy() -> None:
    assert Decoding(5).greedy
    assert not Decoding(5, temperature=0.7).greedy
    assert content_hash(Decoding(5)) != content_hash(Decoding(6))
