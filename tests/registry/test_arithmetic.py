"""Shares, means and equal rows: exact figures of the facts, and properties over any numbers."""

from __future__ import annotations

import random
from decimal import ROUND_HALF_DOWN, ROUND_HALF_UP, Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulu_eval.registry.arithmetic import (
    LARGEST_CHANCE,
    AverageRule,
    ColumnSpread,
    Term,
    equal_rows,
    is_share,
    rules,
    sizes,
    spread_of,
)

ROUNDINGS = st.sampled_from([ROUND_HALF_UP, ROUND_HALF_DOWN])


def printed(exact: Fraction, digits: int, rounding: str) -> Decimal:
    """Rounds a fraction to digits after the point."""
    whole, rest = divmod(exact.numerator * 10**digits, exact.denominator)
    up = 2 * rest > exact.denominator or (2 * rest == exact.denominator and rounding == ROUND_HALF_UP)
    return Decimal(whole + up).scaleb(-digits)


@pytest.mark.parametrize(
    ("value", "possible", "below"),
    [
        ("79.40", False, (801, 796)),
        ("93.02", False, (802, 795)),
        ("94.65", False, (804, 803)),
        ("96.65", True, ()),
        ("88.12189054726367", False, (804,)),
        ("95.03105590062113", True, ()),
    ],
)
def test_published_win_rates_on_805_instructions(value: str, possible: bool, below: tuple[int, ...]) -> None:
    """88.12... is 708.5 of 804; 96.71 is possible with a tie only."""
    assert is_share(Decimal(value), 805, 2) == possible
    if not possible:
        assert sizes(Decimal(value), 805, 2) == below
    assert (is_share(Decimal("96.71"), 805, 2), is_share(Decimal("96.71"), 805)) == (True, False)


@given(st.integers(1, 20_000), st.data(), st.integers(0, 14), ROUNDINGS, st.sampled_from([1, 2]))
def test_every_share_of_n_is_possible_at_n(n: int, data: st.DataObject, digits: int, rounding: str, parts: int) -> None:
    k = data.draw(st.integers(0, n * parts))
    assert is_share(printed(Fraction(100 * k, n * parts), digits, rounding), n, parts)


@given(st.integers(1, 1000), st.integers(0, 10_000), st.integers(1, 2), st.sampled_from([1, 2]))
def test_a_share_is_possible_only_if_some_count_rounds_to_it(n: int, units: int, digits: int, parts: int) -> None:
    value = Decimal(min(units, 10 ** (digits + 2))).scaleb(-digits)
    found = {
        printed(Fraction(100 * k, n * parts), digits, rounding)
        for k in range(n * parts + 1)
        for rounding in (ROUND_HALF_UP, ROUND_HALF_DOWN)
    }
    assert is_share(value, n, parts) == (value in found)


@given(st.integers(2, 900), st.integers(0, 10_000))
def test_sizes_are_the_largest_that_give_a_number(n: int, units: int) -> None:
    value = Decimal(units).scaleb(-2)
    assert sizes(value, n) == tuple(size for size in range(n - 1, 0, -1) if is_share(value, size))[:2]


TERMS = st.lists(
    st.builds(
        Term,
        st.text(max_size=3),
        st.integers(0, 1000).map(lambda tenths: Decimal(tenths).scaleb(-1)),
        st.sampled_from("abc"),
        st.booleans(),
    ),
    min_size=1,
    max_size=12,
)


@given(TERMS, st.data(), ROUNDINGS)
def test_a_mean_of_unrounded_numbers_is_found_from_rounded_ones(terms: list[Term], data: st.DataObject, rounding: str) -> None:
    """Whatever was rounded to the terms, the rule that made the average gives it."""
    rule = data.draw(st.sampled_from(list(rules(terms))))
    offsets = [Fraction(data.draw(st.integers(-5, 5)), 100) for _ in terms]
    truth = [Fraction(term.percent) + offset for term, offset in zip(terms, offsets, strict=True)]
    values = [100 - value if rule.inverted and term.lower else value for term, value in zip(terms, truth, strict=True)]
    groups: dict[object, list[Fraction]] = {}
    for place, (term, value) in enumerate(zip(terms, values, strict=True)):
        groups.setdefault(term.group if rule.grouped else place, []).append(value)
    means = [sum(each, Fraction(0)) / len(each) for each in groups.values()]
    average = sum(means, Fraction(0)) / len(means)
    if average >= 0:
        assert rule.gives(printed(average, 2, rounding), terms)


@given(TERMS)
def test_weights_add_up_and_a_number_off_by_more_than_rounding_is_not_given(terms: list[Term]) -> None:
    for rule in rules(terms):
        assert sum(rule.weights(terms)) == pytest.approx(1)
        assert not rule.gives(Decimal(f"{rule.mean(terms) + 0.2:.2f}"), terms)


def test_only_rules_that_differ_are_tried_and_each_says_what_it_is() -> None:
    alone = [Term(name, Decimal("50.0"), name) for name in "abc"]
    assert [rule.words(alone) for rule in rules(alone)] == ["mean of 3 columns"]
    two = [*alone, Term("x1", Decimal("9.2"), "x", lower=True), Term("x2", Decimal("16.5"), "x", lower=True)]
    assert [rule.words(two) for rule in rules(two)] == [
        "mean of 5 columns",
        "mean of 4 columns, x as one",
        "mean of 5 columns, x inverted",
        "mean of 4 columns, x inverted and as one",
    ]
    mixed = [*alone, Term("a2", Decimal("1.0"), "a"), Term("y", Decimal("1.0"), "y", lower=True)]
    assert AverageRule(inverted=True, grouped=True).words(mixed) == "mean of 4 columns, y inverted, a as one"
    assert len(list(rules([Term(name, Decimal(1), "all") for name in "abc"]))) == 1


def test_one_coarse_column_is_no_finding_and_two_or_a_fine_one_are() -> None:
    table = {
        "start": {"coarse": Decimal("16.5"), "other": Decimal("9.2"), "fine": Decimal("59.24")},
        "made": {"coarse": Decimal("16.5"), "other": Decimal("9.2"), "fine": Decimal("58.43")},
        "third": {"coarse": Decimal("39.0"), "other": Decimal("20.0"), "fine": Decimal("65.31")},
    }
    spreads = {
        name: spread_of([row[name] for row in table.values()], n)
        for name, n in (("coarse", 200), ("other", 250), ("fine", None))
    }
    pairs = [("start", "made"), ("start", "third")]
    (found,) = equal_rows(table, pairs, spreads)
    assert found.columns == ("coarse", "other")
    assert found.chance == pytest.approx(
        2 * spreads["coarse"].chance(Decimal("16.5")) * spreads["other"].chance(Decimal("9.2"))
    )
    alone = {row: {"coarse": cells["coarse"]} for row, cells in table.items()}
    assert not list(equal_rows(alone, pairs, spreads))
    fine = {row: {"fine": Decimal("59.24") if row == "made" else cells["fine"]} for row, cells in table.items()}
    assert [one.second for one in equal_rows(fine, pairs, spreads)] == ["made"]
    assert not list(equal_rows(table, [("start", "third")], spreads))


def test_a_column_without_spread_never_counts() -> None:
    assert spread_of([Decimal("5.0")] * 3).chance(Decimal("5.0")) == 1
    assert spread_of([Decimal("5.0")], 100).chance(Decimal("5.0")) == 1
    assert ColumnSpread(0.1, 9.9, 1080).chance(Decimal(100)) == 1


def test_the_chance_is_what_equally_good_models_have() -> None:
    """Pairs of models of one ability, counted: the stated chance is within a quarter of the share of equal pairs."""
    draws = random.Random(18)

    def right(n: int, share: float) -> int:
        return sum(draws.random() < share for _ in range(n))

    trials = 4000
    equal = sum(right(200, 0.165) == right(200, 0.165) for _ in range(trials)) / trials
    stated = spread_of([Decimal("16.5"), Decimal("39.0"), Decimal("11.5")], 200).chance(Decimal("16.5"))
    assert stated == pytest.approx(equal, rel=0.25)
    assert 0.05 < stated < LARGEST_CHANCE
