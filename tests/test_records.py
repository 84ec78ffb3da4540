"""Records are the same after a round trip, and their hashes depend on content alone."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulu_eval.records import Decoding, Request, Result, content_hash, to_json

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


def test_the_first_draw_has_the_key_of_a_single_sample_and_every_other_its_own() -> None:
    """The key's form is that of the ledgers made before there were draws."""
    single = content_hash({"settings": "s", "token_ids": (1, 2)})
    draws = [Request.of("s", (1, 2), "text", draw=draw) for draw in range(5)]
    assert draws[0].key == single
    assert len({draw.key for draw in draws}) == 5
    seeds = [Decoding(4, 1.0, seed=3).draws(draw.key).random() for draw in draws]
    assert len(set(seeds)) == 5
    assert seeds == [Decoding(4, 1.0, seed=3).draws(Request.of("s", (1, 2), "x", draw=at).key).random() for at in range(5)]


def test_a_text_without_token_ids_is_part_of_the_key() -> None:
    assert Request.of("s", (), "a").key == content_hash({"settings": "s", "token_ids": [], "text": "a"})
    assert Request.of("s", (), "a").key != Request.of("s", (), "b").key
