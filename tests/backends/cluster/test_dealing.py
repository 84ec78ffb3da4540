"""Requests are dealt once each, and those that kill engines are found."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from tulu_eval.backends.cluster.dealing import LARGEST_SHARE, Dealer, Share
from tulu_eval.records import Request


def requests(count: int) -> list[Request]:
    return [Request(f"key-{place}", tuple(range(place % 17 + 1)), "") for place in range(count)]


def shares(dealer: Dealer[Request]) -> list[Share[Request]]:
    found = []
    while not dealer.empty:
        share = dealer.deal()
        assert share is not None
        found.append(share)
    return found


def test_shares_are_equal_and_each_has_prompts_of_every_length() -> None:
    dealt = shares(Dealer(requests(1319), 2))
    assert [len(one.waiting) for one in dealt] == [660, 659]
    for share in dealt:
        lengths = [len(one.token_ids) for one in share.waiting.values()]
        assert lengths == sorted(lengths, reverse=True)
        assert set(lengths) == set(range(1, 18))


def test_few_requests_go_to_all_engines_and_many_in_rounds() -> None:
    assert [len(one.waiting) for one in shares(Dealer(requests(12), 8))] == [2, 2, 2, 2, 1, 1, 1, 1]
    assert [len(one.waiting) for one in shares(Dealer(requests(9000), 2))] == [LARGEST_SHARE] * 4 + [404, 404]
    assert shares(Dealer([], 2)) == []


def test_what_comes_back_is_dealt_again_to_all_engines() -> None:
    dealer = Dealer(requests(8), 2)
    first, second = shares(dealer)
    for key in list(first.waiting)[:2]:
        first.take_out(key)
    dealer.put_back(first)
    assert [len(one.waiting) for one in shares(dealer)] == [1, 1]
    assert dealer.empty
    assert dealer.blame(second) == []
    assert [(len(one.waiting), one.strikes) for one in shares(dealer)] == [(2, 1), (2, 1)]


def test_of_two_engines_with_the_same_requests_the_first_answer_counts() -> None:
    dealer = Dealer(requests(4), 1)
    share = next(iter(shares(dealer)))
    share.take_out("key-3")
    twin = share.doubled()
    assert list(twin.waiting) == list(reversed(share.waiting))
    assert twin.take_out("key-0") is not None
    assert share.take_out("key-0") is None
    assert share.take_out("key-1") is not None
    assert twin.take_out("key-1") is None
    assert list(share.waiting) == list(twin.waiting) == ["key-2"]
    dealer.put_back(twin)  # whose engine died: the other one has them still
    assert dealer.empty
    assert dealer.blame(share) == []
    assert [list(one.waiting) for one in shares(dealer)] == [["key-2"]]


def test_what_an_engine_fails_on_is_asked_once_more_on_another_node() -> None:
    dealer = Dealer(requests(2), 2)
    first, second = dealer.deal("a"), dealer.deal("b")
    assert first is not None
    assert second is not None
    (request,) = first.waiting.values()
    assert dealer.refuse(request, "a", "NaN")
    assert dealer.hopeless({"a", "b"}) == []
    assert dealer.deal("a") is None
    assert not dealer.empty
    again = dealer.deal("b")
    assert again is not None
    assert [dealer.refused_by(key) for key in again.waiting] == ["a"]
    assert not dealer.refuse(request, "b", "NaN")
    (other,) = second.waiting.values()
    assert dealer.refuse(other, "b", "too long")
    assert [(one.request, one.cause) for one in dealer.hopeless({"b"})] == [(other, "too long")]
    assert dealer.empty


@given(
    count=st.integers(0, 400),
    engines=st.integers(1, 9),
    poison=st.sets(st.integers(0, 399), max_size=4),
    lost=st.integers(0, 5),
    seed=st.integers(0, 1000),
)
def test_whatever_dies_each_request_is_answered_or_failed_once(
    count: int, engines: int, poison: set[int], lost: int, seed: int
) -> None:
    draw = random.Random(seed)
    killers = {f"key-{place}" for place in poison if place < count}
    dealer = Dealer(requests(count), engines)
    answered: list[str] = []
    failed: list[str] = []
    deaths = 0
    while not dealer.empty:
        share = dealer.deal()
        assert share is not None
        assert share.waiting
        loss = draw.randrange(len(share.waiting)) if lost and draw.random() < 0.3 else None
        for place, key in enumerate(list(share.waiting)):
            if place == loss:
                lost -= 1
                dealer.put_back(share)
                break
            if key in killers:
                deaths += 1
                failed += [one.key for one in dealer.blame(share)]
                break
            share.take_out(key)
            answered.append(key)
    assert sorted(answered + failed) == sorted(one.key for one in requests(count))
    assert set(failed) == killers
    assert deaths == 3 * len(killers) or len(killers) > 1
