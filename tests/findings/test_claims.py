"""The arithmetic of a bare number: which counts are printed so, and a number that no count gives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulu_eval.errors import UserError
from tulu_eval.findings.claims import Claim, counts, nearby, read_claim


@given(st.integers(1, 3000), st.data(), st.integers(0, 2))
def test_every_count_is_among_those_that_are_printed_as_it_is(n: int, data: st.DataObject, digits: int) -> None:
    right = data.draw(st.integers(0, n))
    found = counts(f"{100 * right / n:.{digits}f}", n)
    assert found is not None
    assert found[0] <= right <= found[1]


def test_a_number_is_a_range_of_counts() -> None:
    assert read_claim("40.0", 1319) == Claim("40.0", 1319, 527, 528)
    assert read_claim(" 48.5 %", 200) == Claim("48.5", 200, 97, 97)
    assert read_claim("100", 3).least == 3
    claim = read_claim("40.0", 1319)
    assert (claim.distance(527.5), claim.distance(520), claim.distance(530)) == (0, 7, 2)


def test_an_impossible_number_is_said_with_sizes_that_could_give_it() -> None:
    assert counts("67.3", 200) is None
    assert all(counts("67.3", size) for size in nearby("67.3", 200))
    with pytest.raises(UserError, match=r"^67\.3 % of 200 items is impossible: .*; it could be of 196, 199, 202, 205, 1,319$"):
        read_claim("67.3", 200, [200, 1319])


@pytest.mark.parametrize("printed", ["", "x", "-1.0", "101", "nan", "1e1", "40.0.0", "9" * 40, "0x1", "40,0"])
def test_what_is_no_percentage_is_refused(printed: str) -> None:
    with pytest.raises(UserError, match=r"is no percentage, such as 40\.0"):
        read_claim(printed, 200)


@pytest.mark.parametrize("n", [0, -1, 10**9])
def test_a_number_of_no_items_is_refused(n: int) -> None:
    with pytest.raises(UserError, match="a number is of 1 to"):
        read_claim("40.0", n)
