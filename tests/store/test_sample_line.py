"""A sample's line: round trip of any sample, checksum, and the parts that are read without parsing it."""

from __future__ import annotations

import dataclasses
import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulu_eval.records import Completion, Grade, Likelihood
from tulu_eval.store.sample_line import Marks, Sample, decode, encode, intact, marks, timeless, ungraded


def sample(number: int, text: str = "So the answer is 4.", *, failed: bool = False) -> Sample:
    completion = Completion(
        f"{number:064x}", text, (1, 2, number), "error" if failed else "stop", 0.25, "died" if failed else ""
    )
    grades = (Grade("last-number", "4", True, 1.0),)
    return Sample(f"test-{number}", "4", "ab" * 32, completion, "engine_error" if failed else "ok", grades)


@given(st.text(), st.text(min_size=1), st.floats(0, 1e6))
def test_any_text_survives(text: str, item: str, seconds: float) -> None:
    one = Sample(item, text, "p", Completion("0" * 64, text, (3,), "stop", seconds), "ok", (Grade("s", text, True, 0.0),))
    line = encode(one)
    assert line.count(b"\n") == 1
    assert decode(line) == one


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_no_changed_byte_goes_unnoticed(position: int, change: int) -> None:
    line = bytearray(encode(sample(7)))
    position %= len(line)
    line[position] ^= change
    if bytes(line).count(b"\n") == 1:
        assert not intact(bytes(line))


@given(st.text(), st.floats(0, 1e300), st.lists(st.integers(0, 2**40)))
def test_a_line_has_the_bytes_of_pythons_own_json(text: str, number: float, ids: list[int]) -> None:
    """All hashes over ledgers stand on them."""
    completion = Completion("0" * 64, text, tuple(ids), "stop", number, text, (Likelihood(text, (-number,)),))
    line = encode(Sample(text, text, "p", completion, "ok", (Grade("s", text, True, number),), "g"))
    data = json.loads(line)
    assert line == json.dumps(data, separators=(",", ":")).encode() + b"\n"
    assert data["token_ids"] == ids


def test_lines_are_json_for_any_reader() -> None:
    data = json.loads(encode(sample(1)))
    assert data["item"] == "test-1"
    assert data["grades"][0]["scorer"] == "last-number"


@given(st.text(), st.text(min_size=1))
def test_marks_and_the_timeless_part_are_read_without_parsing_the_rest(text: str, item: str) -> None:
    trap = text + ',"grades":[{"score":9}],"seconds":1,"crc":"'
    grades = (Grade("s", trap, True, 0.5), Grade("t", "", False, 1.0))
    one = Sample(item, trap, "p", Completion("0" * 64, trap, (3,), "stop", 1.5, trap), "ok", grades)
    assert marks(encode(one)) == (item, Marks("ok", (0.5, 1.0)))
    slower = dataclasses.replace(one, completion=dataclasses.replace(one.completion, seconds=2.5))
    other = dataclasses.replace(one, status="empty")
    assert timeless(encode(one)) == timeless(encode(slower)) != timeless(encode(other))


@given(st.text(min_size=1), st.floats(0, 9, allow_nan=False), st.text())
def test_a_weight_and_a_group_are_kept(item: str, weight: float, group: str) -> None:
    grades = (Grade("s", ',"weight":9}', True, 0.5, weight), Grade("t", "", False, 1.0))
    one = Sample(item, "t", "p", Completion("0" * 64, "x", (3,), "stop", 1.5), "ok", grades, group)
    line = encode(one)
    assert decode(line) == one
    assert encode(decode(line)) == line
    weights = () if weight == 1 else (weight, 1.0)
    assert marks(line) == (item, Marks("ok", (0.5, 1.0), weights, group))


def test_what_a_line_does_not_need_is_not_in_it() -> None:
    """Lines of runs made before there were weights and groups are what they were, and so are all hashes over them."""
    line = encode(Sample("i", "t", "p", Completion("0" * 64, "x", (3,), "stop", 1.5), "ok", (Grade("s", "a", True, 1.0),)))
    assert line == (
        b'{"key":"' + b"0" * 64 + b'","item":"i","status":"ok","target":"t","prompt_sha256":"p","text":"x","token_ids":[3],'
        b'"finish_reason":"stop","error":"","grades":[{"scorer":"s","answer":"a","answered":true,"score":1.0}],"seconds":1.5,'
        b'"crc":"%08x"}\n' % zlib.crc32(line[:-19])
    )


def test_a_group_is_part_of_what_was_answered() -> None:
    plain = Sample("i", "t", "p", Completion("0" * 64, "x", (3,), "stop", 1.5), "ok", ())
    grouped = dataclasses.replace(plain, group="algebra")
    assert ungraded(encode(plain)) != ungraded(encode(grouped))
    assert ungraded(encode(grouped)) == ungraded(encode(dataclasses.replace(grouped, status="empty")))


@given(st.lists(st.tuples(st.text(), st.lists(st.floats(-1e6, 1e-3), min_size=1)), min_size=1))
def test_likelihoods_are_kept_and_are_part_of_what_was_answered(found: list[tuple[str, list[float]]]) -> None:
    likelihoods = tuple(Likelihood(text, tuple(logprobs)) for text, logprobs in found)
    before = sample(1)
    one = dataclasses.replace(before, completion=dataclasses.replace(before.completion, likelihoods=likelihoods))
    assert decode(encode(one)) == one
    assert marks(encode(one)) == marks(encode(before))
    assert ungraded(encode(one)) != ungraded(encode(before))


@pytest.mark.parametrize("logprobs", [[], [0.5], [-1e7], ["x"], [None]])
def test_a_log_probability_has_a_range(logprobs: list[object]) -> None:
    before = sample(1)
    likelihoods = (Likelihood("a", tuple(logprobs)),)  # type: ignore[arg-type]
    one = dataclasses.replace(before, completion=dataclasses.replace(before.completion, likelihoods=likelihoods))
    with pytest.raises(ValueError, match="likelihoods"):
        decode(encode(one))
