"""What was paid for is kept: answers by their key, one a line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tulu_eval.errors import DataError, UserError
from tulu_eval.judging.budget import JudgeUsage
from tulu_eval.judging.cache import Cache, Stored, reduce_choice


def stored(key, **more):
    choice = {"finish_reason": "length", "message": {"content": "m"}, "logprobs": {"content": []}}
    return Stored(key, "judge", "judge-served", choice, JudgeUsage(10, 1), "2026-01-01T00:00:00+00:00")


def test_answers_come_back_and_the_first_stays(cache_path):
    with Cache(cache_path) as cache:
        cache.add(stored("a"))
        cache.add(stored("b"))
    with Cache(cache_path) as cache:
        assert len(cache) == 2
        assert cache.get("a") == stored("a")
        assert cache.get("c") is None


def test_a_file_cut_at_every_byte_of_its_last_line_goes_on(cache_path):
    with Cache(cache_path) as cache:
        cache.add(stored("a"))
        whole = len(cache_path.read_bytes())
        cache.add(stored("b"))
    data = cache_path.read_bytes()
    for end in range(whole, len(data) + 1):
        cache_path.write_bytes(data[:end])
        with Cache(cache_path) as cache:
            assert cache.get("a") == stored("a")
            assert (cache.get("b") is not None) == (end >= len(data) - 1)
            cache.add(stored("c"))
        lines = [json.loads(line)["key"] for line in cache_path.read_text().splitlines()]
        assert lines == (["a", "b", "c"] if end >= len(data) - 1 else ["a", "c"])


LINE = '{"key":"k","judge":"j","served":"s","choice":{},"usage":{"prompt_tokens":1,"answer_tokens":1},"time":"t"%s}'
LINES_THAT_ARE_NONE = [
    *(b"not json", b"{}", b"[]", b'{"key": 1}', b"\xff\xfe", b"[" * 100_000),
    *((LINE % more).encode() for more in (',"key":"other"', ',"unknown":1')),
    *((LINE % "").replace(old, new).encode() for old, new in (('"t"', "1"), ("{}", "[]"), (":1", ":-1"), (":1", ":1.5"))),
]
"""A name twice, a name that is not known, values of another type or range."""


@pytest.mark.parametrize("line", LINES_THAT_ARE_NONE)
def test_a_broken_line_in_the_midst_is_named_and_left_alone(cache_path, line):
    with Cache(cache_path) as cache:
        cache.add(stored("a"))
    data = line + b"\n" + cache_path.read_bytes()
    cache_path.write_bytes(data)
    with pytest.raises(DataError, match=r"judge\.jsonl:1: is not a stored judgment"):
        Cache(cache_path)
    assert cache_path.read_bytes() == data


def test_a_whole_line_is_one(cache_path):
    cache_path.parent.mkdir()
    cache_path.write_text(LINE % "" + "\n")
    with Cache(cache_path) as cache:
        assert len(cache) == 1


@pytest.mark.parametrize("read_only", [False, True])
def test_a_cache_that_is_no_file_is_not_waited_for(tmp_path, read_only):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(UserError, match="it is not a regular file"):
            Cache(path, read_only=read_only)


def test_a_cache_that_cannot_be_opened_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be opened"):
        Cache(tmp_path / "file" / "judge.jsonl")


def test_what_is_kept_of_a_choice():
    top = [{"token": "m", "logprob": -0.5, "bytes": [109]}, {"token": "M", "logprob": float("-inf")}]
    raw = {"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": "m", "tool_calls": []},
           "logprobs": {"content": [{"token": "m", "top_logprobs": top}, {"token": "x", "top_logprobs": []}]}}  # fmt: skip
    assert reduce_choice(raw) == {
        "finish_reason": "length",
        "message": {"content": "m"},
        "logprobs": {"content": [{"top_logprobs": [{"token": "m", "logprob": -0.5}]}]},
    }
