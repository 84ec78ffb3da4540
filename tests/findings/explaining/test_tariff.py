"""What a server may cost: the most before samples are made, what was made after, and an end before it is too much."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tulu_eval.errors import UserError
from tulu_eval.findings.explaining.search import Spending
from tulu_eval.findings.explaining.tariff import Tariff, prompt_tokens, tariff_of
from tulu_eval.judging.budget import Price, find_price
from tulu_eval.records import Decoding, Request, Turn

TARIFF = Tariff(Price(1e6, 2e6, "one dollar a token read, two a token made"), 40.0)


def plan(*prompts: int, local: bool = False) -> Any:
    items = [
        SimpleNamespace(item=SimpleNamespace(id=f"item-{at}"), request=Request(f"key-{at}", tuple(range(size)), "text"))
        for at, size in enumerate(prompts)
    ]
    return SimpleNamespace(backend=SimpleNamespace(local=local, name="made-up"), decoding=Decoding(8), planned=items)


def test_a_prompt_that_the_server_cuts_into_tokens_has_at_most_its_bytes() -> None:
    assert prompt_tokens(Request("key", (1, 2, 3), "a long text")) == 3
    assert prompt_tokens(Request("key", (), "né")) == 3 + 16
    assert prompt_tokens(Request("key", (), "né", (Turn("user", "n"), Turn("assistant", "é")))) == 3 + 24


def test_the_most_that_samples_can_cost_is_that_of_the_longest_answers() -> None:
    assert TARIFF.bound(plan(10, 20, 30), {"item-0", "item-2"}) == pytest.approx(10 + 30 + 2 * 2 * 8)
    assert TARIFF.bound(plan(10, 20, local=True), {"item-0"}) == 0.0


def test_what_was_made_counts_with_its_tokens_and_with_the_limit_where_they_are_not_known() -> None:
    made: Any = {
        "item-0": SimpleNamespace(completion=SimpleNamespace(token_ids=(1, 2, 3))),
        "item-1": SimpleNamespace(completion=SimpleNamespace(token_ids=())),
    }
    assert TARIFF.cost(plan(10, 20), made, made=2) == pytest.approx(10 + 2 * 3 + 20 + 2 * 8)
    assert TARIFF.cost(plan(10, 20), made, made=1) == pytest.approx(20 + 2 * 8), "the dearer one; the other was in a ledger"
    assert TARIFF.cost(plan(10, 20, local=True), made, made=2) == 0.0


def test_nothing_is_begun_that_could_cost_more_than_is_left() -> None:
    spending = Spending(100, None, TARIFF)
    asked = plan(10, 20)
    assert spending.allows(asked, {"item-0"})
    made: Any = {"item-0": SimpleNamespace(completion=SimpleNamespace(token_ids=(1,)))}
    spending.count(asked, made, 1)
    assert (spending.spent, spending.dollars) == (1, pytest.approx(12))
    assert not spending.allows(asked, {"item-1"}), "12 and 36 are more than 40"
    assert spending.short
    assert spending.allows(asked, set())


def test_a_price_is_that_of_a_server_which_is_known_or_given() -> None:
    def base(name: str) -> Any:
        served = SimpleNamespace(name=name)
        order = SimpleNamespace(settings=SimpleNamespace(served=served))
        return SimpleNamespace(plan=SimpleNamespace(backend=SimpleNamespace(local=False, name="openai"), order=order))

    listed = find_price("gpt-4.1")
    assert listed is not None
    assert tariff_of(base("gpt-4.1"), None, 5.0) == Tariff(listed, 5.0)
    given = tariff_of(base("mine"), "0.1,0.2", 5.0)
    assert given is not None
    assert (given.price.input, given.price.output) == (0.1, 0.2)
    assert tariff_of(base("mine"), None, None) is None
    with pytest.raises(UserError, match=r"^--max-cost needs a price, and the table has none for mine: give --price IN,OUT"):
        tariff_of(base("mine"), None, 5.0)
    with pytest.raises(UserError, match=r"^--max-cost -1.0 is not 0 or more dollars"):
        tariff_of(base("gpt-4.1"), None, -1.0)
    with pytest.raises(UserError, match=r"^--price says what --max-cost counts; give both"):
        tariff_of(base("mine"), "1,2", None)
