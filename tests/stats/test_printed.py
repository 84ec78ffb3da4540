from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulu_eval.stats import cell_count, compatible_sizes

CARD = [48.5, 67.0, 50.5, 46.0, 71.5]


@pytest.mark.parametrize(
    ("cell", "n", "count"),
    [(67.0, 200, 134), (58.0, 200, 116), (48.5, 200, 97), (61.3, 1319, 809), (0.0, 7, 0), (100.0, 7, 7), (14.3, 7, 1)],
)
def test_count_behind_a_cell(cell, n, count):
    assert cell_count(cell, n) == count


@pytest.mark.parametrize(("cell", "n"), [(67.3, 200), (48.7, 200), (50.1, 3), (99.9, 200), (0.1, 200)])
def test_impossible_cell(cell, n):
    with pytest.raises(ValueError, match="cannot be the percentage"):
        cell_count(cell, n)


def test_message_names_the_nearest_cells():
    with pytest.raises(
        ValueError, match=r"^67\.3 cannot .* 200 items: the nearest are 67\.00 \(134/200\) or 67\.50 \(135/200\)$"
    ):
        cell_count(67.3, 200)


@pytest.mark.parametrize(
    ("cell", "n", "decimals"), [(101.0, 5, 1), (-1.0, 5, 1), (float("nan"), 5, 1), (50.0, 0, 1), (33.33, 3, 1)]
)
def test_what_is_no_cell(cell, n, decimals):
    with pytest.raises(ValueError, match=r".+"):
        cell_count(cell, n, decimals)


def test_a_tie_may_be_rounded_either_way():
    assert cell_count(12.2, 400) == cell_count(12.3, 400) == 49  # 12.25


@given(st.integers(1, 1000), st.data(), st.sampled_from([0, 1, 2]))
def test_what_was_printed_is_read_back(n, data, decimals):
    k = data.draw(st.integers(0, n))
    found = cell_count(round(100 * k / n, decimals), n, decimals)
    if n < 10 ** (decimals + 2):
        assert found == k  # neighbours print differently
    assert round(100 * found / n, decimals) == pytest.approx(round(100 * k / n, decimals), abs=1.01 * 10**-decimals)


def test_sizes_that_can_print_the_card():
    assert compatible_sizes(CARD, 419) == (200, 291, 309, 400)
    assert 420 not in compatible_sizes(CARD, 420)
    assert 1319 in compatible_sizes(CARD, 1319)


def test_sizes_against_printing_every_count():
    expected = tuple(n for n in range(1, 420) if set(CARD) <= {round(100 * k / n, 1) for k in range(n + 1)})
    assert compatible_sizes(CARD, 419) == expected
