"""The generated benchmark: seeded, clean, and gradable."""

from __future__ import annotations

from pathlib import Path

import pytest

from tulu_eval.benchmarks.gsm_symbolic import GSMSymbolic
from tulu_eval.errors import DataError


def test_items_are_the_same_every_time_and_have_whole_targets() -> None:
    benchmark = GSMSymbolic()
    protocol = benchmark.protocol(None)
    items = benchmark.load(protocol, None)
    assert items == benchmark.load(protocol, None)
    assert len({item.id for item in items}) == protocol.n == 500
    assert all(item.target.lstrip("-").isdigit() for item in items)
    assert not any("final answer" in item.question for item in items)


def test_a_right_completion_is_right() -> None:
    benchmark = GSMSymbolic()
    item = benchmark.load(benchmark.protocol(None), None)[0]
    published, stated = benchmark.grade(item.target, f" We count. So the answer is {item.target}.")
    assert (published.score, stated.score) == (1.0, 1.0)


def test_data_is_refused() -> None:
    with pytest.raises(DataError, match="generates its items"):
        GSMSymbolic().load(GSMSymbolic().protocol(None), Path("x"))
