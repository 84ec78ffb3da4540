from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulu_eval.stats import count_groups, holm, letter_groups


def test_the_card_separates_two_groups():
    cells = {"PPO 8B": 97, "PPO 13B": 134, "DPO 13B": 101, "SFT 13B": 92, "DPO 70B": 143}
    letters = dict(zip(cells, count_groups([(k, 200) for k in cells.values()]), strict=True))
    assert letters == {"PPO 8B": "B", "PPO 13B": "A", "DPO 13B": "B", "SFT 13B": "B", "DPO 70B": "A"}


def test_a_result_between_two_groups_stands_in_both():
    assert count_groups([(90, 200), (110, 200), (130, 200)]) == ("B", "AB", "A")


def test_few_results():
    assert count_groups([]) == ()
    assert count_groups([(1, 2)]) == ("A",)
    assert count_groups([(100, 100), (0, 100)]) == ("A", "B")


def test_more_groups_than_letters():
    n = 28
    letters = letter_groups([float(-i) for i in range(n)], dict.fromkeys(itertools.combinations(range(n), 2), 0.0))
    assert letters[:2] == ("A", "B")
    assert letters[25:] == ("Z", "A1", "B1")


@st.composite
def tables(draw):
    n = draw(st.integers(1, 7))
    pairs = list(itertools.combinations(range(n), 2))
    p_values = draw(st.lists(st.sampled_from([1e-6, 0.004, 0.03, 0.5]), min_size=len(pairs), max_size=len(pairs)))
    values = draw(st.lists(st.integers(0, 5), min_size=n, max_size=n))
    return values, dict(zip(pairs, p_values, strict=True))


@given(tables())
def test_the_rule_of_display(table):
    values, p_values = table
    letters = [set(each) for each in letter_groups(values, p_values)]
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    for (i, j), p in adjusted.items():
        assert bool(letters[i] & letters[j]) == (p >= 0.05)
    groups = {letter: frozenset(i for i, each in enumerate(letters) if letter in each) for letter in set().union(*letters)}
    n = len(values)
    together = {frozenset(pair) for pair, p in adjusted.items() if p >= 0.05} | {frozenset([i]) for i in range(n)}
    cliques = [
        set(members)
        for size in range(1, n + 1)
        for members in itertools.combinations(range(n), size)
        if all(frozenset(pair) in together for pair in itertools.product(members, repeat=2))
    ]
    assert {frozenset(clique) for clique in cliques if not any(clique < other for other in cliques)} == set(groups.values())
    best = [max(values[i] for i in groups[letter]) for letter in sorted(groups)]
    assert best == sorted(best, reverse=True)


def test_a_missing_pair():
    with pytest.raises(ValueError, match="exactly the pairs"):
        letter_groups([1.0, 2.0, 3.0], {(0, 1): 0.5, (1, 2): 0.5})
