"""Groups of prompts cover each prompt once and never compute more tokens than one group or each prompt alone."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulu_eval.backends.hf.prefix_groups import GROUP_TOKENS, PrefixGroup, common_length, prefix_groups


def cost(groups: list[PrefixGroup], prompts: list[tuple[int, ...]]) -> int:
    """Returns the tokens that groups compute, with what a group costs besides."""
    own = sum(len(prompts[at]) - group.prefix for group in groups for at in group.members)
    return own + sum(GROUP_TOKENS + group.prefix for group in groups)


@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=7).map(tuple), max_size=12))
def test_groups_cover_each_prompt_once_with_a_prefix_that_is_theirs(prompts: list[tuple[int, ...]]) -> None:
    groups = prefix_groups(prompts)
    assert sorted(at for group in groups for at in group.members) == list(range(len(prompts)))
    for group in groups:
        assert len({prompts[at][: group.prefix] for at in group.members}) == 1
        assert all(len(prompts[at]) > group.prefix for at in group.members)


@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=300).map(tuple), min_size=1, max_size=9))
def test_groups_cost_no_more_than_one_group_or_none(prompts: list[tuple[int, ...]]) -> None:
    everyone = tuple(range(len(prompts)))
    shared = min(common_length(one, other) for one in prompts for other in prompts)
    found = cost(prefix_groups(prompts), prompts)
    assert found <= cost([PrefixGroup(shared, everyone)], prompts)
    assert found <= cost([PrefixGroup(len(one) - 1, (at,)) for at, one in enumerate(prompts)], prompts)


def test_subjects_are_groups_whatever_the_order() -> None:
    draw = random.Random(0)
    heads = [tuple(draw.randrange(50) for _ in range(length)) for length in (400, 900, 650)]
    prompts = [(7, 8, *heads[at % 3], *(draw.randrange(50, 99) for _ in range(40 + at))) for at in range(30)]
    groups = prefix_groups(prompts)
    assert [(group.prefix, sorted(group.members)) for group in groups] == [
        (902, list(range(1, 30, 3))),
        (652, list(range(2, 30, 3))),
        (402, list(range(0, 30, 3))),
    ]


def test_prompts_without_a_long_prefix_are_one_group() -> None:
    prompts = [(1, at, *range(20)) for at in range(10)]
    assert [(group.prefix, len(group.members)) for group in prefix_groups(prompts)] == [(1, 10)]
    assert prefix_groups([]) == []


def test_a_long_chain_of_prompts_is_no_deep_recursion() -> None:
    prompts = [tuple(range(length)) for length in range(1, 3000)]
    assert sum(len(group.members) for group in prefix_groups(prompts)) == 2999


@pytest.mark.parametrize(
    ("one", "other", "length"), [((1,), (1,), 0), ((1, 2), (1, 2), 1), ((1, 2, 3), (1, 2, 4), 2), ((5, 1), (6, 1), 0)]
)
def test_common_length_leaves_a_token(one: tuple[int, ...], other: tuple[int, ...], length: int) -> None:
    assert common_length(one, other) == common_length(other, one) == length
