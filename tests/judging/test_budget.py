"""What judging costs."""

from __future__ import annotations

import math
import queue
import threading
import time

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
from tulu_eval.judging.judge_recipe import Question

MODELS = ("alpaca-7b", "claude-2", "gpt-3.5-turbo-1106")


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


def test_the_first_request_goes_alone_and_an_excess_over_its_bound_is_reserved_for_later_ones(recipe, pairs):
    price = Price(10.0, 30.0, "test")
    questions = [recipe.question(pair) for pair in pairs(40)]
    each = price.dollars(3 * prompt_bound(questions[0]), 1)  # the endpoint counts three times what the text can be
    budget = Budget(price, max_cost=9.5 * each)
    sent: queue.Queue[bool] = queue.Queue()

    def reserve(question: Question) -> None:
        sent.put(budget.reserve(question))

    usage, allowed = JudgeUsage(3 * prompt_bound(questions[0]), 1), 0
    threads = [threading.Thread(target=reserve, args=(question,), daemon=True) for question in questions]
    for thread in threads:
        thread.start()
    for question in questions:
        if sent.get(timeout=60):
            time.sleep(0.0 if allowed else 0.2)
            assert allowed or sent.empty(), "the second request waits for the first one's cost"
            budget.settle(question, usage)
            allowed += 1
    assert allowed == 9
    assert budget.spent().dollars <= 9.5 * each


def test_a_judge_that_costs_nothing_reserves_all_its_requests_at_once(recipe, pairs):
    budget = Budget(Price(0.0, 0.0, "test"), 0.0)
    assert all(budget.reserve(recipe.question(pair)) for pair in pairs(8))
