"""The page in real headless Chromium: what a person does with it, and that nothing in it runs or leaves but its own script."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tulu_eval.registry import load_suite
from tulu_eval.reports.report import make

TARGET = "Tulu V2.5 PPO Llama 3 70B (this model)"


def choose_chart(page: Any, name: str) -> None:
    page.page.get_by_label("Benchmark", exact=True).select_option(value=name)


def test_sorting_goes_up_then_down_then_back_and_says_so(open_page: Callable[..., Any]) -> None:
    page = open_page()
    labels = page.column("label")
    verdict = page.page.locator("#board th", has=page.page.get_by_role("button", name="Verdict", exact=False))
    assert verdict.get_attribute("aria-sort") == "ascending"
    assert "Order: verdict, worst first" in page.page.locator("#board-status").inner_text()
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
    assert "Order: published, descending" in page.page.locator("#board-status").inner_text()
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "none"
    assert page.column("label") == labels


WORST_FIRST = ["inconsistent", "cannot tell", "consistent", "no verdict", "–"]


def test_the_page_leads_with_how_many_agree_and_shows_the_worst_first(shared_page: Any) -> None:
    verdicts = [next(name for name in WORST_FIRST if name in text) for text in shared_page.column("verdict")]
    assert verdicts == sorted(verdicts, key=WORST_FIRST.index)
    counted = {name: sum(row == name for row in verdicts) for name in WORST_FIRST[:3]}
    headline = shared_page.page.locator("h1").inner_text()
    agree = counted["consistent"]
    assert headline.startswith(f"{agree} of {sum(counted.values())} agree")
    assert (f"{counted['inconsistent']} do" in headline) == bool(counted["inconsistent"])
    assert (f"{counted['cannot tell']} cannot tell" in headline) == bool(counted["cannot tell"])
    listed = shared_page.page.locator("#verdicts li")
    assert listed.count() == sum(counted.values()) > 1
    assert verdicts[0] in listed.first.inner_text()


def test_a_measured_number_has_interval_n_difference_verdict_and_a_smaller_signature(shared_page: Any) -> None:
    row = shared_page.page.locator("#board tbody tr", has_text="Tulu V2 SFT 13B").first
    assert row.locator(".c-measured").inner_text().split("\n")[:2] == ["48.5", "41.7 to 55.4, n = 200"]
    assert row.locator(".c-difference").inner_text().split("\n")[0] == "+2.5"
    assert "consistent" in row.locator(".c-verdict").inner_text()
    signature = row.locator("xpath=following-sibling::tr[1]").locator(".c-signature code")
    assert "|m:allenai/tulu-2-13b@2a2b2c2d|" in signature.inner_text()
    size = "node => parseFloat(getComputedStyle(node).fontSize)"
    assert signature.evaluate(size) < 0.7 * row.locator(".c-measured strong").evaluate(size)
    failed = shared_page.page.locator("#board tbody tr", has_text=TARGET).first
    assert "2 of 200 failed" in failed.locator(".c-measured").inner_text()


def test_filters_narrow_table_and_plot_alike(open_page: Callable[..., Any]) -> None:
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
    choose_chart(page, "AlpacaEval 2 LC")
    assert "gpt-4-1106-preview" in page.column("judge")


def test_a_chart_has_the_unit_and_the_judge_on_its_axis(open_page: Callable[..., Any]) -> None:
    page = open_page()
    for name, axis in (
        ("GSM8K", "GSM8K, percent"),
        ("AlpacaEval 2 LC", "AlpacaEval 2 LC, percent, judged by gpt-4-1106-preview as published"),
    ):
        choose_chart(page, name)
        assert page.page.locator("#dots svg").get_by_text(axis, exact=True).count() == 1
        assert page.page.locator("#board caption").inner_text().startswith(f"{axis}. ")


def test_a_plot_of_two_rows_names_both(open_page: Callable[..., Any]) -> None:
    """Two row numbers alone look like the ends of a continuous scale."""
    page = open_page()
    page.page.get_by_label("Find a model").fill("dpo")
    page.until("document.querySelectorAll('#board .c-label').length === 2")
    for label in ("Tulu V2 DPO 13B", "Tulu V2 DPO 70B"):
        assert page.page.locator("#dots svg").get_by_text(label, exact=True).count() == 1


def test_a_row_says_where_its_model_comes_from_and_what_stood_beside(open_page: Callable[..., Any]) -> None:
    page = open_page()
    page.page.locator("#board .disclose", has_text="Tulu V2.5 PPO 13B").first.click()
    facts = page.page.locator("#board .detail:not([hidden]) dl").inner_text()
    ppo = "tulu-v2.5-ppo-13b-uf-mean-70b-uf-rm"
    assert f"Llama-2-13b-hf (base) → tulu-2-13b (SFT) → {ppo} (PPO)\n" in facts
    assert "Rewarded by\ntulu-v2.5-70b-uf-rm (RM)\n" in facts
    assert f"Value model\n{ppo}-value (value)" in facts


def test_a_row_opens_its_sources_and_its_samples(open_page: Callable[..., Any]) -> None:
    page = open_page()
    name = page.page.get_by_role("button", name=TARGET)
    name.click()
    assert name.get_attribute("aria-expanded") == "true"
    detail = page.page.locator(f"[id={name.get_attribute('aria-controls')}]")
    assert "no other known number equals it" in detail.inner_text()
    assert "Meta-Llama-3-8B (base) → llama-3-tulu-2-8b (SFT)" in detail.inner_text()
    detail.get_by_role("button", name="Read its samples").click()
    page.until("document.querySelector('#sample-list caption').textContent.includes('70b-uf-rm')")


def test_every_published_metric_of_the_suite_has_a_chart(shared_page: Any) -> None:
    charts = shared_page.page.locator("#board-chart option").all_inner_texts()
    for name in (
        "MMLU, 5-shot",
        "TydiQA, gold passage, 1-shot",
        "RewardBench",
        "Codex HumanEval, pass@10",
        "XSTest, safe but refused",
    ):
        assert name in charts
    assert "GSM8K (4)" in charts


BOX = "node => { const b = node.getBoundingClientRect(); return [b.left, b.right]; }"


def test_labels_stay_inside_the_chart_and_doubtful_marks_are_dotted(open_page: Callable[..., Any]) -> None:
    page = open_page()
    for width in (1280, 390):
        page.page.set_viewport_size({"width": width, "height": 800})
        page.page.wait_for_timeout(200)
        for name in ("GSM8K", "AlpacaEval 2 LC"):
            choose_chart(page, name)
            left, right = page.page.locator("#dots").evaluate(BOX)
            for text in page.page.locator("#dots svg text").all():
                box = text.evaluate(BOX)
                assert left <= box[0], text.inner_text()
                assert box[1] <= right, text.inner_text()
        marks = page.page.locator("#dots [aria-label=dot][stroke-dasharray] path")
        assert marks.count() > 0, "AlpacaEval's contradicted numbers have no interval, so their marks must say it"


def test_few_items_make_a_small_mark_that_says_its_n(open_file: Callable[..., Any], make_run: Any, tmp_path: Any) -> None:
    make_run(60, model="my/whole", revision="sha256:1")
    make_run(1, model="my/few", revision="sha256:2", limit=2)
    path = tmp_path / "few.html"
    path.write_text(make(load_suite(), tmp_path / "results", {}).text, encoding="utf-8")
    page = open_file(path)
    assert page.page.locator("#dots svg").get_by_text("n = 2", exact=True).count() == 1
    sizes = page.page.locator("#dots [aria-label=dot] [aria-label*=measured]")
    width = {
        sizes.nth(i).get_attribute("aria-label").split("\n")[0]: sizes.nth(i).bounding_box()["width"]
        for i in range(sizes.count())
    }
    assert width["my/few"] < 0.6 * width["my/whole"]
    lines = [float(node.get_attribute("stroke-width")) for node in page.page.locator("#dots [aria-label=rule] line").all()]
    assert min(lines) < 0.5 * max(lines)


def download(page: Any, name: str) -> str:
    with page.page.expect_download() as found:
        page.page.get_by_role("button", name=re.compile(name)).click()
    return str(found.value.path())


def test_rows_and_samples_are_downloaded_as_filtered_and_no_cell_is_a_formula(open_page: Callable[..., Any]) -> None:
    page = open_page()
    page.page.get_by_label("Find a model").fill("dpo")
    page.until("document.querySelectorAll('#board .c-label').length === 2")
    rows = list(csv.DictReader(io.StringIO(Path(download(page, "Download these tulu-eval GSM8K as CSV")).read_text("utf-8"))))
    assert [row["published_value"] for row in rows] == ["50.5", "71.5"]
    choose_run(page, "70b-uf-rm")
    page.page.get_by_label("Class", exact=True).select_option("engine_error")
    page.page.get_by_label("Grade", exact=True).select_option("wrong")
    page.until("document.querySelectorAll('#sample-list tbody tr').length === 2")
    samples = json.loads(Path(download(page, "Download these samples of .* as JSON")).read_text("utf-8"))
    assert [sample["class"] for sample in samples] == ["engine_error"] * 2
    assert not page.said
    written = "() => page.csv([{ a: '=1+1', b: '-12.5', c: '@x,\"y', d: -3, e: null, f: '\\tz', g: '\\n=1', h: '\uff1d1' }])"
    assert page.page.evaluate(written) == ('a,b,c,d,e,f,g,h\r\n\'=1+1,-12.5,"\'@x,""y",-3,,\'\tz,"\'\n=1",\'\uff1d1\r\n')


def test_a_phone_shows_a_row_on_its_first_screen(chromium: Any, report: Path) -> None:
    context = chromium.new_context(viewport={"width": 390, "height": 844})
    tab = context.new_page()
    tab.goto(report.as_uri())
    tab.wait_for_selector("#sample-list tbody tr")
    box = tab.locator("#verdicts li").first.bounding_box()
    assert box["y"] + box["height"] < 844
    first, plot = tab.locator("#board tbody tr").first.bounding_box(), tab.locator("#dots").bounding_box()
    assert first["y"] < plot["y"], "rows before the chart"
    assert not tab.get_by_label("Find a model").is_visible(), "filters are folded away"
    named = "one => [...one.querySelectorAll('td[data-title]')].map((cell) => getComputedStyle(cell, '::before').content)"
    assert tab.locator("#sample-list tbody tr").first.evaluate(named) == [
        f'"{title} "' for title in ("right answer", "last-number", "stated-answer")
    ]
    context.close()


def choose_run(page: Any, name: str) -> None:
    run = page.page.get_by_label("Run", exact=True)
    run.select_option(label=next(text for text in run.locator("option").all_text_contents() if name in text))
    page.until("name => document.querySelector('#sample-list caption').textContent.includes(name)", name)


def test_samples_are_filtered_by_class_grade_and_text(open_page: Callable[..., Any]) -> None:
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
    page.page.get_by_text("No sample matches the filters.").wait_for()


def test_a_sample_shows_completion_extraction_and_both_grades(open_page: Callable[..., Any]) -> None:
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


def test_an_address_leads_to_a_sample(open_page: Callable[..., Any]) -> None:
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


def test_a_hostile_completion_is_text(open_page: Callable[..., Any], hostile: str) -> None:
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


def test_the_policy_forbids_scripts_and_requests_that_are_not_the_pages_own(open_page: Callable[..., Any]) -> None:
    page = open_page()
    page.page.evaluate(
        "() => { const s = document.createElement('script'); s.textContent = 'window.hacked = 3'; document.body.append(s);"
        "const i = document.createElement('img'); i.src = 'http://127.0.0.1:9/x.png'; document.body.append(i);"
        "fetch('http://127.0.0.1:9/').catch(() => { window.refused = true }); }"
    )
    page.until("window.refused === true")
    assert page.page.evaluate("window.hacked") is None
    assert len([text for text in page.said if "Content Security Policy" in text]) >= 3


def test_nothing_is_said_and_nothing_is_asked_for_while_the_page_is_used(open_page: Callable[..., Any]) -> None:
    page = open_page()
    for benchmark in ("AlpacaEval 2 LC", "GSM8K"):
        choose_chart(page, benchmark)
    page.page.locator("#dots svg").hover()
    for summary in page.page.locator("summary:visible").all():
        summary.click()
    page.page.get_by_label("Find", exact=True).fill("48.5")
    assert not page.said
    assert len(page.asked) == 1


def test_folders_left_out_are_named_and_nothing_of_them_is_a_result(shared_page: Any) -> None:
    notice = shared_page.page.get_by_role("region", name="2 run folders left out")
    text = notice.inner_text()
    assert "my__edited" in text
    assert "changed by hand" in text
    assert "my__other-version" in text
    assert "is of format 99" in text
    for name in ("my/edited", "my/other-version"):
        assert name not in shared_page.page.locator("#board").inner_text() + shared_page.page.locator("#runs").inner_text()


def test_training_has_curves_probe_and_rollouts(open_page: Callable[..., Any], hostile: str) -> None:
    page = open_page()
    section = page.page.locator("#training")
    section.locator(".curve svg").first.wait_for()
    titles = section.locator(".curve figcaption strong").all_inner_texts()
    wanted = ["Reward", "KL from the start", "EOS rate", "Length", "Entropy", "Clip fraction", "Explained variance", "Loss"]
    assert titles[: len(wanted)] == wanted
    assert {"Gradient norm, policy", "Tokens per second"} <= set(titles)
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


def test_runs_of_one_recipe_are_told_apart(open_file: Callable[..., Any], make_run: Any, tmp_path: Any) -> None:
    for output in ("seed-0", "seed-1"):
        make_run(right=5, limit=10, model="my-checkpoint", output=f"all/{output}")
    make_run(right=5, limit=10, model="another", output="all/seed-0")
    path = tmp_path / "seeds.html"
    path.write_text(make(load_suite(), tmp_path / "all", {}).text, encoding="utf-8")
    page = open_file(path)
    wheres = page.page.locator("#run-list .where").all_inner_texts()
    assert sorted(wheres) == ["seed-0", "seed-1"]


def test_the_number_of_a_run_is_of_the_items_that_are_counted_beside_it(
    open_file: Callable[..., Any], make_run: Any, tmp_path: Any
) -> None:
    make_run(lambda place: place < 200, protocol="full", model="my-checkpoint")
    path = tmp_path / "full.html"
    path.write_text(make(load_suite(), tmp_path / "results", {}).text, encoding="utf-8")
    card = open_file(path).page.locator("#run-list summary").first.inner_text()
    assert "n = 1319" in card
    assert "100.0" not in card, "that is the number of the first 200"
