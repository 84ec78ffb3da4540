"""The words for what is there of a run."""

from __future__ import annotations

import pytest

from tulu_eval.store.tally import Tally


@pytest.mark.parametrize(
    ("tally", "finished", "unfinished", "failures"),
    [
        (Tally(5, 5, 0), True, "", ""),
        (Tally(5, 3, 2), True, "", "2 of 5 failed"),
        (
            Tally(5, 3, 1, "1 x out of memory"),
            False,
            "unfinished: 4 of 5 planned samples are there",
            "1 of 5 failed (1 x out of memory)",
        ),
        (Tally(5, 0, 0), False, "unfinished: 0 of 5 planned samples are there", ""),
    ],
)
def test_words(tally: Tally, finished: bool, unfinished: str, failures: str) -> None:
    assert (tally.finished, tally.unfinished.partition(",")[0], tally.failures) == (finished, unfinished, failures)
