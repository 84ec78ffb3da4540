"""The ids of an item's samples, and the shards of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tulu_eval.runs.requests import every, item_of, sample_ids


@given(st.text(min_size=1), st.integers(1, 30))
def test_samples_have_ids_of_their_own_that_lead_back(item: str, samples: int) -> None:
    names = sample_ids(item, samples)
    assert len(set(names)) == samples
    assert {item_of(name, samples) for name in names} == {item}


@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 7))
def test_parts_are_whole_items_and_cover_all(items: int, samples: int, parts: int) -> None:
    ids = [name for item in range(items) for name in sample_ids(str(item), samples)]
    found = [every(ids, samples, part, parts) for part in range(1, parts + 1)]
    assert sorted(one for part in found for one in part) == sorted(ids)
    sizes = [len(part) for part in found]
    assert max(sizes) - min(sizes) <= samples
    assert all(size % samples == 0 for size in sizes)


def test_without_several_samples_a_part_is_every_nth() -> None:
    assert every(range(10), 1, 2, 3) == list(range(10))[1::3]
