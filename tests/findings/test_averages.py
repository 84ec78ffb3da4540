"""The card's average of measured rows: by which rules, from which columns, how far it may be off."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulu_eval.findings.averages import averages
from tulu_eval.records import Result
from tulu_eval.registry import Suite, load_suite
from tulu_eval.reports.suite_table import of_rows

MINE = """
[[source]]
key = "report"
document = "our report"

[[metric]]
key = "easy"
title = "Easy"
benchmark = "easy"
metric = "accuracy"
protocol = "all"

[[metric]]
key = "safe"
title = "Safe"
benchmark = "guard"
metric = "wrong_refusals"
protocol = "all"
lower_is_better = true

[[metric]]
key = "unsafe"
title = "Unsafe"
benchmark = "guard"
metric = "wrong_answers"
protocol = "all"
lower_is_better = true

[[model]]
hub_id = "us/mine"
stage = "DPO"
size = "8B"
family = "ours"

[[table]]
source = "report"
columns = ["easy", "safe", "unsafe", "Average"]
rows = [["us/mine", "80.0", "10.0", "20.0", "82.5"]]
"""
"""An average that is the mean of two columns: 80, and 85 for the two inverted ones as one."""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    path = tmp_path_factory.mktemp("registry") / "mine.toml"
    path.write_text(MINE)
    return load_suite(path)


def row(benchmark: str, metric: str, value: float, half: float = 2.0) -> Result:
    return Result(
        benchmark, "all", "s", metric, value, 100, 100, 100, value - half, value + half, "wilson95", {"ok": 100}, "signature"
    )


def rows(easy: float = 50.0, safe: float = 20.0, unsafe: float = 40.0, half: float = 2.0) -> list[Result]:
    return [
        row("easy", "accuracy", easy, half),
        row("guard", "wrong_refusals", safe, half),
        row("guard", "wrong_answers", unsafe, half),
    ]


def test_an_average_follows_its_rule(suite: Suite) -> None:
    found = {one.rule: one for one in averages(suite, rows())}
    mine = found["mean of 2 columns, guard inverted and as one"]
    assert (mine.value, mine.explains, mine.columns, mine.why) == (60.0, ("mine",), ("Easy", "Safe", "Unsafe"), "")
    assert (mine.low, mine.high) == (pytest.approx(60 - math.sqrt(2)), pytest.approx(60 + math.sqrt(2)))
    assert "mean of 2 columns, guard inverted and as one (which explains that of mine): 60.0 [58.6, 61.4]" in " ".join(
        of_rows(rows(), (), tuple(found.values())).split()
    )
    card = found["mean of 11 columns, xstest inverted"]
    assert (card.value, card.low, card.explains) == (None, None, ("Meta-Llama-3-70B-Instruct",))
    assert card.why.startswith("not measured whole: MMLU, 5-shot; GSM8K, 8-shot CoT; ")


def test_no_average_without_a_column_or_with_a_part_of_one(suite: Suite) -> None:
    assert averages(suite, []) == ()
    assert averages(suite, [row("other", "accuracy", 50.0)]) == ()
    first, *others = rows()
    for odd in (
        dataclasses.replace(first, n=99),
        dataclasses.replace(first, counts={"ok": 99, "engine_error": 1}),
        dataclasses.replace(first, protocol="some"),
        dataclasses.replace(first, metric="f1"),
    ):
        (mine,) = [one for one in averages(suite, [odd, *others]) if one.explains == ("mine",)]
        assert (mine.value, mine.why) == (None, "not measured whole: Easy")


def test_an_average_without_interval_says_why(suite: Suite) -> None:
    first, *others = rows()
    found = averages(suite, [dataclasses.replace(first, interval="none"), *others])
    (mine,) = [one for one in found if one.explains == ("mine",)]
    assert (mine.value, mine.low, mine.why) == (60.0, None, "no interval of Easy")
    assert "60.0 no interval: no interval of Easy" in " ".join(of_rows([], (), [mine]).split())


@given(st.floats(0, 100), st.floats(0, 100), st.floats(0, 100), st.floats(0, 20))
def test_the_interval_is_around_the_value_and_no_wider_than_the_widest_column(
    suite: Suite, easy: float, safe: float, unsafe: float, half: float
) -> None:
    (mine,) = [one for one in averages(suite, rows(easy, safe, unsafe, half)) if one.explains == ("mine",)]
    assert mine.value is not None
    assert mine.low is not None
    assert mine.high is not None
    assert mine.value == pytest.approx((easy + 100 - (safe + unsafe) / 2) / 2)
    assert mine.low - 1e-9 <= mine.value <= mine.high + 1e-9
    assert (mine.high - mine.low) / 2 <= half + 1e-6
