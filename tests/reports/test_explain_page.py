"""The page of ``explain``: every step of the way, nothing of a name as markup, and no request."""

from __future__ import annotations

import dataclasses
import re

import pytest

from tulu_eval.findings.explaining.explanation import Explanation, Tried
from tulu_eval.findings.explaining.verdicts import Gap
from tulu_eval.reports.explain_page import as_html

ROW = Tried(("zero-shot",), "examples", "8", "none", "examples: none instead of 8",
            "a thread", True, 64, 200, -12.0, -20.0, -5.0, -3.0, -6.0, 1.0, 60, 3.0,
            "explains it", "why")  # fmt: skip
FOUND = Explanation("One setting explains it.", "<b>base</b>", "goal", Gap(0.5, 0.35, 1e-4, "exact McNemar", 200), 200, 4.0,
                    ("zero-shot",), (), (ROW,), (), 64, 100, None, 400, False, 1.0, "")  # fmt: skip


def test_the_way_from_one_number_to_the_other_adds_up() -> None:
    assert [name for name, _ in FOUND.steps] == ["examples: none", "not explained"]
    assert [points for _, points in FOUND.steps] == pytest.approx([-12.0, -3.0])
    page = as_html(FOUND)
    assert re.findall(r'class="label"[^>]*>([^<]+)<', page) == ["50.0 %", "-12.0", "-3.0", "35.0 %"]


def test_names_are_text_and_the_page_asks_for_nothing() -> None:
    page = as_html(FOUND)
    assert "<b>base" not in page
    assert "&lt;b&gt;base" in page
    assert "default-src 'none'" in page
    assert "<script" not in page
    assert re.findall(r"(?:src|href)=", page) == []


def test_without_a_gap_there_is_no_way() -> None:
    undecided = dataclasses.replace(FOUND, gap=None, named=())
    assert undecided.steps == ()
    assert "<ol>" not in as_html(undecided)


def test_a_bar_lies_between_two_numbers_of_one_scale_and_what_was_found_is_marked() -> None:
    page = as_html(FOUND)
    places = re.findall(r"left:([0-9.]+)%;width:([0-9.]+)%", page)
    assert [(float(left), float(width)) for left, width in places] == [(0.0, 100.0), (76.0, 24.0), (70.0, 6.0), (0.0, 70.0)]
    assert page.count('<tr class="found">') == 1
