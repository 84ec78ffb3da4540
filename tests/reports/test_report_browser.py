"""The page in real headless Chromium: what a person does with it, and that nothing in it runs or leaves but its own script."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

TARGET = "Tulu V2.5 PPO Llama 3 70B (this model)"


class Watched:
    """A page, with all it said and asked for."""

    def __init__(self, browser: Any, path: Path, **more: Any) -> None:
        self.context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce", **more)
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("#sample-list tbody tr")

    def until(self, script: str, argument: Any = None) -> None:
        """Waits until an expression or function is true; Playwright's own evaluates text, which the page's policy forbids."""
        last = time.monotonic() + 10
        while not self.page.evaluate(script, argument):
            assert time.monotonic() < last, script
            self.page.wait_for_timeout(20)

    def column(self, name: str) -> list[str]:
        return [text.strip() for text in self.page.locator(f"#board .c-{name}").all_inner_texts()]


@pytest.fixture(scope="module")
def shared_page(chromium: Any, report: Path) -> Iterator[Watched]:
    watched = Watched(chromium, report)
    yield watched
    watched.context.close()


@pytest.fixture
def open_page(chromium: Any, report: Path) -> Iterator[Callable[..., Watched]]:
    made: list[Watched] = []

    def call(**more: Any) -> Watched:
        made.append(Watched(chromium, report, **more))
        return made[-1]

    yield call
    for watched in made:
        watched.context.close()


def test_sorting_goes_up_then_down_then_back_and_says_so(open_page: Callable[..., Watched]) -> None:
    page = open_page()
    labels = page.column("label")
    heading = page.page.locator("#board th", has=page.page.get_by_role("button", name="Published", exact=False)).nth(0)
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    numbers = [float(text.split()[0]) for text in page.column("published") if not text.startswith("not")]
    assert numbers == sorted(numbers)
    assert len(numbers) == 6
    assert page.column("published")[-1] == "not published", "a row without a number is last both ways"
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    numbers = [float(text.split()[0]) for text in page.column("published") if not text.startswith("not")]
    assert numbers == sorted(numbers, reverse=True)
    assert page.column("published")[-1] == "not published"
    assert "by published, descending" in page.page.locator("#board-status").inner_text()
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "none"
    assert page.column("label") == labels


def test_the_measured_column_has_value_interval_n_verdict_and_signature(shared_page: Watched) -> None:
    row = shared_page.page.locator("#board tbody tr", has_text="Tulu V2 SFT 13B").first
    assert row.locator(".c-measured").inner_text().split("\n")[:2] == ["48.5", "41.7 to 55.4"]
    assert row.locator(".c-mn").inner_text() == "200"
    assert "consistent" in row.locator(".c-verdict").inner_text()
    signature = row.locator("xpath=following-sibling::tr[1]").locator(".c-signature")
    assert "|m:allenai/tulu-2-13b@2a2b2c2d|" in signature.inner_text()
    failed = shared_page.page.locator("#board tbody tr", has_text=TARGET).first
    assert failed.locator(".c-verdict").inner_text().split("\n") == ["no verdict", "2 failures"]


def test_filters_narrow_table_and_plot_alike(open_page: Callable[..., Watched]) -> None:
    page = open_page()
    dots = page.page.locator("#dots [aria-label=dot] path, #dots [aria-label=dot] circle")
    before = dots.count()
    page.page.get_by_label("Find a model").fill("dpo")
    page.until("document.querySelectorAll('#board .c-label').length === 2")
    assert all("DPO" in stage for stage in page.column("stage"))
    assert 0 < dots.count() < before
    page.page.get_by_label("Find a model").fill("")
    page.page.get_by_label("Rows").select_option("all")
    page.until("document.querySelectorAll('#board .c-label').length > 10")
    page.page.get_by_label("Verdict").select_option("consistent")
    assert all("consistent" in text for text in page.column("verdict"))
    page.page.get_by_label("Verdict").select_option("")
    page.page.get_by_role("button", name="AlpacaEval 2 LC").click()
    assert "gpt-4-1106-preview" in page.column("judge")


def test_a_row_opens_its_sources_and_its_samples(open_page: Callable[..., Watched]) -> None:
    page = open_page()
    name = page.page.get_by_role("button", name=TARGET)
    name.click()
    assert name.get_attribute("aria-expanded") == "true"
    detail = page.page.locator(f"[id={name.get_attribute('aria-controls')}]")
    assert "no other known number equals it" in detail.inner_text()
    assert "Meta-Llama-3-8B (base) → llama-3-tulu-2-8b (SFT)" in detail.inner_text()
    detail.get_by_role("button", name="Read its samples").click()
    page.until("document.querySelector('#sample-list caption').textContent.includes('70b-uf-rm')")


def choose_run(page: Watched, name: str) -> None:
    run = page.page.get_by_label("Run", exact=True)
    run.select_option(label=next(text for text in run.locator("option").all_text_contents() if name in text))
    page.until("name => document.querySelector('#sample-list caption').textContent.includes(name)", name)


def test_samples_are_filtered_by_class_grade_and_text(open_page: Callable[..., Watched]) -> None:
    page = open_page()
    choose_run(page, "70b-uf-rm")
    rows = page.page.locator("#sample-list tbody tr")

    def left(label: str, value: str, expected: int) -> list[str]:
        page.page.get_by_label(label, exact=True).select_option(value)
        page.until("n => document.querySelectorAll('#sample-list tbody tr').length === n", expected)
        return rows.all_inner_texts()

    assert all("engine error" in text for text in left("Class", "engine_error", 2))
    left("Class", "empty", 1)
    left("Class", "", 50)
    (text,) = left("Grade", "apart", 1)
    assert "99 ✕ wrong" in text
    assert "8 ✓ right" in text
    left("Grade", "", 50)
    page.page.get_by_label("Find in questions and completions").fill("DO NOT know")
    page.until("document.querySelectorAll('#sample-list tbody tr').length === 1")
    assert "no answer" in rows.first.inner_text()
    page.page.get_by_label("Find in questions and completions").fill("nobody wrote this")
    page.page.get_by_text("No sample is like that.").wait_for()


def test_a_sample_shows_completion_extraction_and_both_grades(open_page: Callable[..., Watched]) -> None:
    page = open_page()
    choose_run(page, "tulu-2-13b")
    page.page.locator("#sample-list .disclose").nth(9).click()
    sheet = page.page.locator("#sample-sheet")
    sheet.locator("h3").wait_for()
    assert sheet.locator(".completion").inner_text() == " So the answer is 10."
    assert sheet.locator("mark").inner_text() == "10"
    assert [row.split() for row in sheet.locator("tbody").first.inner_text().split("\n")] == [
        ["last-number", "10", "✓", "right"],
        ["stated-answer", "10", "✓", "right"],
    ]
    assert page.page.evaluate("document.activeElement.tagName") == "H3", "a screen reader goes to the sample"
    item = sheet.locator("h3").inner_text()
    sheet.get_by_role("button", name="Next sample").click()
    page.until("item => document.querySelector('#sample-sheet h3').textContent !== item", item)
    sheet.get_by_text("The same item in").click()
    assert "first we add" not in sheet.inner_text()
    sheet.get_by_role("button", name="llama-3-tulu-2-8b", exact=False).click()
    page.until("document.querySelector('#sample-list caption').textContent.includes('llama-3-tulu-2-8b')")
    page.page.locator("#sample-sheet h3").wait_for()


def test_an_address_leads_to_a_sample(open_page: Callable[..., Watched]) -> None:
    page = open_page()
    choose_run(page, "tulu-2-13b")
    page.page.locator("#sample-list .disclose").nth(3).click()
    page.page.locator("#sample-sheet h3").wait_for()
    address, item = page.page.url, page.page.locator("#sample-sheet h3").inner_text()
    assert "#sample/" in address
    page.page.goto("about:blank")
    page.page.goto(address)
    page.page.wait_for_selector("#sample-sheet h3")
    assert page.page.locator("#sample-sheet h3").inner_text() == item


def test_a_hostile_completion_is_text(open_page: Callable[..., Watched], hostile: str) -> None:
    page = open_page()
    choose_run(page, "70b-uf-rm")
    page.page.locator("#sample-list .disclose").nth(4).click()
    page.page.locator("#sample-sheet .completion").wait_for()
    shown = page.page.locator("#sample-sheet .completion").evaluate("node => node.textContent")
    assert shown == hostile
    page.page.wait_for_timeout(200)
    assert page.page.evaluate("window.hacked") is None
    assert page.page.locator("main img, #sample-sheet script, #sample-sheet b").count() == 0
    assert page.page.locator("h1").is_visible()
    assert not page.said
    assert page.asked == [page.page.url.partition("#")[0]]


def test_the_policy_forbids_scripts_and_requests_that_are_not_the_pages_own(open_page: Callable[..., Watched]) -> None:
    page = open_page()
    page.page.evaluate(
        "() => { const s = document.createElement('script'); s.textContent = 'window.hacked = 3'; document.body.append(s);"
        "const i = document.createElement('img'); i.src = 'http://127.0.0.1:9/x.png'; document.body.append(i);"
        "fetch('http://127.0.0.1:9/').catch(() => { window.refused = true }); }"
    )
    page.until("window.refused === true")
    assert page.page.evaluate("window.hacked") is None
    assert len([text for text in page.said if "Content Security Policy" in text]) >= 3


def test_nothing_is_said_and_nothing_is_asked_for_while_the_page_is_used(open_page: Callable[..., Watched]) -> None:
    page = open_page()
    for benchmark in ("AlpacaEval 2 LC", "GSM8K"):
        page.page.get_by_role("button", name=benchmark, exact=True).click()
    page.page.locator("#dots svg").hover()
    for summary in page.page.locator("summary:visible").all():
        summary.click()
    page.page.get_by_label("Find", exact=True).fill("48.5")
    assert not page.said
    assert len(page.asked) == 1


def test_folders_left_out_are_named_and_nothing_of_them_is_a_result(shared_page: Watched) -> None:
    notice = shared_page.page.get_by_role("region", name="2 run folders left out")
    text = notice.inner_text()
    assert "my__edited" in text
    assert "changed by hand" in text
    assert "my__other-version" in text
    assert "is of format 99" in text
    for name in ("my/edited", "my/other-version"):
        assert name not in shared_page.page.locator("#board").inner_text() + shared_page.page.locator("#runs").inner_text()


def test_training_has_curves_probe_and_rollouts(open_page: Callable[..., Watched], hostile: str) -> None:
    page = open_page()
    section = page.page.locator("#training")
    section.locator(".curve svg").first.wait_for()
    titles = section.locator(".curve figcaption strong").all_inner_texts()
    wanted = ["Reward", "KL from the start", "EOS rate", "Length", "Entropy", "Clip fraction", "Explained variance", "Loss"]
    assert titles[: len(wanted)] == wanted
    assert {"Gradient norm, policy", "Tokens a second"} <= set(titles)
    assert "2 more curves" in section.inner_text()
    reward = section.locator("svg[aria-label^=Reward]").first
    assert reward.get_attribute("aria-label").endswith("-4.5 at step 1, 14.5 at step 20, between -4.5 and 14.5")
    assert reward.locator("[aria-label=line] path").get_attribute("d").count("L") == 19
    gaps = section.locator("svg[aria-label^='Gradient norm, policy'] [aria-label=line] path").get_attribute("d")
    assert gaps.count("M") == 2, "a number that was not finite is a gap"
    probe = section.locator(".probe tbody tr").nth(1).inner_text().split("\t")
    assert (probe[0], probe[1].split()[0], probe[2].split()[0]) == ("10", "25.0", "+25.0")
    assert section.locator(".rollout").all_text_contents() == [hostile, "It is 10."]
    section.get_by_label("Step", exact=True).select_option(label="1")
    page.until("document.querySelectorAll('#training .rollout')[1].textContent === 'It is 0.'")
    section.get_by_label("Training run").select_option(label="b-rm (rm)")
    page.until("document.querySelector('#training-about').textContent.includes('b-rm') || !document.querySelector('.rollout')")
    assert "Accuracy" in section.locator(".curve figcaption strong").all_inner_texts()
    assert page.page.evaluate("window.hacked") is None
    assert not page.said


@pytest.mark.parametrize("width", [320, 375, 768, 1024])
def test_no_width_scrolls_sideways(open_page: Callable[..., Watched], width: int) -> None:
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


def test_dark_follows_the_system_and_the_button(open_page: Callable[..., Watched]) -> None:
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
def test_text_has_contrast(open_page: Callable[..., Watched], scheme: str) -> None:
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


def test_the_keyboard_is_enough(open_page: Callable[..., Watched]) -> None:
    page = open_page()
    keys = page.page.keyboard
    keys.press("Tab")
    assert page.page.evaluate("document.activeElement.className") == "skip"
    keys.press("Enter")
    page.page.get_by_role("button", name="Size").focus()
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


def test_a_screen_reader_has_names_for_everything(shared_page: Watched) -> None:
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
