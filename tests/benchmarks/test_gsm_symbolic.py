"""The generated benchmark: seeded, clean, and gradable."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tulu_eval.benchmarks import gsm_symbolic
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


def test_a_damaged_cache_is_made_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(gsm_symbolic, "_generated", lambda size, seed: [("How many?", "1")] * size)
    made = gsm_symbolic.generate(2, 0)
    (path,) = tmp_path.rglob("*.json")
    for kept in ([1, 2], [["one"], ["two"]], [["a", 1], ["b", 2]]):
        path.write_text(json.dumps({"items": kept}))
        assert gsm_symbolic.generate(2, 0) == made


def test_a_right_completion_is_right() -> None:
    benchmark = GSMSymbolic()
    item = benchmark.load(benchmark.protocol(None), None)[0]
    published, stated = benchmark.grade(item.target, f" We count. So the answer is {item.target}.")
    assert (published.score, stated.score) == (1.0, 1.0)


def test_data_is_refused() -> None:
    with pytest.raises(DataError, match="generates its items"):
        GSMSymbolic().load(GSMSymbolic().protocol(None), Path("x"))
