"""The page in real headless Chromium, for every eye and hand: widths, dark and light, contrast, keyboard, screen reader."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize("width", [320, 375, 768, 1024])
def test_no_width_scrolls_sideways(open_page: Callable[..., Any], width: int) -> None:
    page = open_page()
    page.page.set_viewport_size({"width": width, "height": 800})
    page.page.locator("#board .disclose").first.click()
    page.page.locator("#sample-list .disclose").first.click()
    page.page.locator("#sample-sheet h3").wait_for()
    for summary in page.page.locator("summary:visible").all():
        summary.click()
    assert page.page.evaluate("document.documentElement.scrollWidth") == width
    if width < 600:
        assert not page.page.locator("#sample-list").is_visible(), "a phone shows the sample in the list's place"
        page.page.get_by_role("button", name="Back to the list").click()
        assert page.page.locator("#sample-list").is_visible()


def test_dark_follows_the_system_and_the_button(open_page: Callable[..., Any]) -> None:
    paper = "getComputedStyle(document.documentElement).backgroundColor"
    light, dark = open_page(color_scheme="light"), open_page(color_scheme="dark")
    white, black = light.page.evaluate(paper), dark.page.evaluate(paper)
    assert white != black
    light.page.get_by_role("button", name="Use dark colours").click()
    assert light.page.evaluate(paper) == black
    dark.page.get_by_role("button", name="Use light colours").click()
    assert dark.page.evaluate(paper) == white


LUMINANCE = """node => {
  const rgb = (text) => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const light = (text) => rgb(text).map((x) => x / 255).map((x) => (x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4))
    .reduce((sum, x, i) => sum + x * [0.2126, 0.7152, 0.0722][i], 0);
  let back = node;
  while (/rgba\\(0, 0, 0, 0\\)|transparent/.test(getComputedStyle(back).backgroundColor)) back = back.parentElement;
  const [a, b] = [light(getComputedStyle(node).color), light(getComputedStyle(back).backgroundColor)].sort((x, y) => y - x);
  return (a + 0.05) / (b + 0.05);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(open_page: Callable[..., Any], scheme: str) -> None:
    page = open_page(color_scheme=scheme)
    for selector in (
        "#lead",
        ".pill.good",
        ".pill.doubt",
        ".disclose",
        ".right",
        ".wrong",
        ".c-signature code",
        "caption",
        ".notice li",
    ):
        assert page.page.locator(selector).first.evaluate(LUMINANCE) >= 4.5, f"{selector}: WCAG AA asks for 4.5"


def test_the_keyboard_is_enough(open_page: Callable[..., Any]) -> None:
    page = open_page()
    keys = page.page.keyboard
    keys.press("Tab")
    assert page.page.evaluate("document.activeElement.className") == "skip"
    keys.press("Enter")
    page.page.locator("#board").get_by_role("button", name="Size").focus()
    keys.press("Enter")
    assert page.page.locator("#board th[aria-sort=ascending]").inner_text().startswith("Size")
    assert page.page.evaluate("document.activeElement.dataset.sort") == "size", "focus stays on the heading"
    assert page.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.page.locator("#board .disclose").first.focus()
    keys.press("Space")
    assert page.page.locator("#board .disclose").first.get_attribute("aria-expanded") == "true"
    page.page.locator("#sample-list .disclose").nth(2).focus()
    keys.press("Enter")
    page.page.locator("#sample-sheet h3").wait_for()
    keys.press("Shift+Tab")
    keys.press("Shift+Tab")
    keys.press("Shift+Tab")
    keys.press("Enter")
    page.until("document.activeElement.dataset.place === '2'")


def test_a_screen_reader_has_names_for_everything(shared_page: Any) -> None:
    page = shared_page.page
    assert page.evaluate("document.documentElement.lang") == "en"
    nameless = page.evaluate(
        "[...document.querySelectorAll('button, select, input, summary')].filter((node) => !node.hidden && "
        "!(node.getAttribute('aria-label') || node.textContent.trim() || node.labels?.length)).length"
    )
    assert nameless == 0
    assert page.locator("table").count() == page.locator("table > caption").count()
    assert page.locator("#dots svg").get_attribute("role") == "img"
    assert "The table below has every figure" in page.locator("#dots svg").get_attribute("aria-label")
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map((node) => Number(node.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels)), "no heading level is skipped"
    assert page.locator("[role=status]").count() >= 3


def test_a_broken_part_is_said_where_it_would_have_been(chromium: Any, report: Path, tmp_path: Path) -> None:
    text = report.read_text(encoding="utf-8")
    start = text.index('id="run-0">') + len('id="run-0">')
    broken = tmp_path / "broken.html"
    broken.write_text(text[:start] + "AAAA" + text[start + 4 :], encoding="utf-8")
    context = chromium.new_context()
    page = context.new_page()
    page.goto(broken.as_uri())
    page.get_by_text("The samples of this run cannot be opened").wait_for()
    assert page.locator("#board tbody tr").count() > 5
    context.close()
