"""A draw depends on what it is for and on nothing else, and stays the same: a resumed run goes on with it."""

from __future__ import annotations

from tulu_eval.training.randomness import derive, permutation


def test_a_draw_is_always_the_same() -> None:
    assert derive(42, 3, "rollout") == 4598002998114882568
    assert permutation(8, 42, 0) == [0, 3, 6, 7, 5, 2, 1, 4]


def test_another_purpose_is_another_draw() -> None:
    draws = [
        derive(*words) for words in ((1,), (1, 1), (11,), (1, "1", ""), (1, 2, "order"), (1, 2, "rollout"), (2, 1, "rollout"))
    ]
    assert len(set(draws)) == len(draws)
    assert all(0 <= draw < 1 << 63 for draw in draws)


def test_an_epoch_has_every_row_once_in_an_order_of_its_own() -> None:
    orders = [permutation(100, 7, epoch) for epoch in range(3)]
    assert all(sorted(order) == list(range(100)) for order in orders)
    assert orders[0] != orders[1] != orders[2]
    assert permutation(0, 7, 0) == []
