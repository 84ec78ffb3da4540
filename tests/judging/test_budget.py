"""The cost of judging, and the cache of paid answers."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

from tulu_eval.errors import DataError, UserError
from tulu_eval.judging.annotations import read_annotations
from tulu_eval.judging.budget import (
    CHARACTERS_PER_TOKEN,
    Budget,
    JudgeUsage,
    Price,
    estimate,
    find_price,
    parse_price,
    prompt_bound,
    read_prices,
)
from tulu_eval.judging.cache import Cache, Stored, reduce_choice

MODELS = ("alpaca-7b", "claude-2", "gpt-3.5-turbo-1106")


def stored(key, **more):
    choice = {"finish_reason": "length", "message": {"content": "m"}, "logprobs": {"content": []}}
    return Stored(key, "judge", "judge-served", choice, JudgeUsage(10, 1), "2026-01-01T00:00:00+00:00")


@pytest.mark.parametrize("model", MODELS)
def test_the_estimate_is_right_on_the_published_record(shared, recipes, model):
    from tulu_eval.judging.judge_recipe import load_recipe

    path = shared / "data" / "alpaca_eval" / "models" / model / "annotations_weighted_alpaca_eval_gpt4_turbo.json"
    rows = [row for row in read_annotations(path).rows if row.choice is not None]
    recipe = load_recipe()
    questions = [recipe.question(row.pair) for row in rows]
    tokens = [int(row.choice["total_tokens"]) for row in rows]
    found = estimate(questions, find_price("gpt-4-1106-preview"))
    assert found.prompt_tokens + found.answer_tokens == pytest.approx(sum(tokens), rel=0.015)
    assert found.dollars == pytest.approx(sum(tokens) / 1e5, rel=0.02)
    assert all(prompt_bound(question) >= count for question, count in zip(questions, tokens, strict=True))


def test_prices():
    price = find_price("gpt-4.1-2025-04-14")
    assert (price.input, price.output) == (2.0, 8.0)
    assert price.source == "list price of 2026-04-30"
    assert find_price("gpt-4.1-super") is None
    assert find_price("gpt-4-1106-preview").dollars(1_000_000, 0) == 10.0
    assert parse_price("2.5, 10").dollars(1_000_000, 1_000_000) == 12.5
    for text in ("", "2.5", "a,b", "-1,2", "1,2,3", "nan,1"):
        with pytest.raises(UserError, match="is not IN,OUT"):
            parse_price(text)


def test_another_price_table(tmp_path):
    path = tmp_path / "prices.toml"
    path.write_text('date = "2027-01-01"\n[models]\nmine = { input = 1, output = 2 }\n')
    assert read_prices(path, "mine") == Price(1.0, 2.0, "prices.toml of 2027-01-01")
    assert read_prices(path, "other") is None
    path.write_text("[models]\nmine = 3\n")
    with pytest.raises(DataError, match="is not a price table"):
        read_prices(path, "mine")


def test_an_estimate_says_what_it_knows(recipe, recipes, pairs):
    questions = [recipe.question(pair) for pair in pairs(10)]
    found = estimate(questions + questions, None)
    assert found.requests == 10
    assert found.dollars is None
    assert "at an unknown price (give --price IN,OUT)" in str(found)
    characters = sum(len(turn.content) for question in questions for turn in question.messages)
    assert found.prompt_tokens == round(characters / CHARACTERS_PER_TOKEN)
    text = estimate([recipes("text").question(pair) for pair in pairs(10)], Price(1.0, 10.0, "test"))
    assert text.answer_tokens == 40960
    assert "about $0.41 (test)" in str(text)


def test_a_limit_needs_a_price_and_a_number():
    with pytest.raises(UserError, match="--max-cost needs a price"):
        Budget(None, 1.0)
    for bad in (-1.0, math.nan):
        with pytest.raises(UserError, match="is not 0 or more"):
            Budget(Price(1, 1, "test"), bad)


def test_a_limit_of_nothing_asks_nothing(recipe, pairs):
    budget = Budget(Price(1, 1, "test"), 0.0)
    assert not budget.reserve(recipe.question(pairs(1)[0]))
    assert budget.spent().requests == 0


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
"""A duplicate name, an unknown name, values of another type or range."""


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
