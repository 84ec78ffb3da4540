"""Likelihoods and several samples per item: packed, and on the page in real Chromium."""

from __future__ import annotations

import base64
import dataclasses
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from plugins import orders

from tulu_eval.records import STATUSES, Completion, Likelihood
from tulu_eval.registry import load_suite
from tulu_eval.reports.report import make
from tulu_eval.reports.samples import Packed, _likelihood, pack
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.prompts import PromptSource
from tulu_eval.runs.reading import StoredRun, find_runs
from tulu_eval.runs.run_plan import make_plan
from tulu_eval.runs.runner import execute
from tulu_eval.testing import ScriptedBackend

THOUGHTS = ("<think>a</think>ab", "<think>a", "<think>b</think>abc", "<think>x</think> ")
"""The four answers to each question: even, unfinished, odd, none."""

LOGPROBS = {"A": -0.25, "B": -1.5, "C": -2.0, "D": -0.5, " She eats.": -0.5, " <b>No</b>": -0.75}
"""Log-probability of each token of a given text; of others -3."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, llama3_like: Path, llama2_like: Path) -> Iterator[Path]:
    """Six runs: two models on letters and on endings, one on dice with and without reasoning; with the plug-ins declared."""
    root = tmp_path_factory.mktemp("shapes")

    class Engine(ScriptedBackend):
        name = "transformers"
        turns = 0

        def answer(self, request: Any, decoding: Any) -> Completion:
            text = THOUGHTS[self.turns % 4]
            self.turns += 1
            return Completion(request.key, text, tuple(map(ord, text)), "stop", 0.1)

        def logprob(self, prompt: str, text: str) -> float:
            return LOGPROBS.get(text, -3.0)

    with pytest.MonkeyPatch.context() as patch:
        orders.declare(patch)
        for name, model, more in (
            ("letters", llama3_like, {}), ("letters", llama2_like, {}),
            ("endings", llama3_like, {}), ("endings", llama2_like, {}),
            ("dice", llama3_like, {"protocol": "thinking"}), ("dice", llama3_like, {"protocol": "four"}),
        ):  # fmt: skip
            plan = make_plan(orders.order(model, root, name, **more), load_suite())
            execute(dataclasses.replace(plan, backend=Engine), Progress(quiet=True))
        yield root


def data(folder: Path) -> dict[str, Path]:
    return {name: folder / f"{name}.jsonl" for name in orders.PLUGINS}


@pytest.fixture(scope="module")
def packed(folder: Path) -> tuple[list[StoredRun], Packed]:
    runs, problems = find_runs(folder / "results")
    assert not problems
    return runs, pack([(run, list(run.samples())) for run in runs], PromptSource(data(folder)))


def opened(packed: Packed, name: str) -> Any:
    return json.loads(zlib.decompress(base64.b64decode(packed.blobs[name])))


def test_every_sample_is_found_by_item_and_number(packed: tuple[list[StoredRun], Packed]) -> None:
    runs, page = packed
    assert [run["per_item"] for run in page.runs] == [1 if run.benchmark != "dice" else 4 for run in runs]
    assert [group["items"] for group in sorted(page.groups, key=lambda one: one["benchmark"])] == [5, 6, 9]
    for place, run in enumerate(runs):
        group = page.runs[place]["group"]
        items, index = opened(page, f"group-{group}"), opened(page, f"run-{place}")
        block = opened(page, f"block-{group}-0")
        samples = {sample.item: sample for sample in run.samples()}
        numbers = index["numbers"] or [None] * len(samples)
        assert len(numbers) == len(samples)
        for at, number in enumerate(numbers):
            item = items["items"][index["items"][at]]
            sample = samples.pop(item if number is None else f"{item}#{number}")
            assert items["targets"][index["items"][at]] == sample.target
            assert STATUSES[index["statuses"][at]] == sample.status
            question, written = block[index["items"][at]]
            assert question == next(row["question"] for row in orders.ROWS[run.benchmark] if row["id"] == item)
            (own,) = [one for one in written if one[:2] == [place, number or 1]]
            assert own[2] == sample.completion.text
            given = own[5] if len(own) > 5 else []
            assert [one[:2] for one in given] == [[one.text, len(one.logprobs)] for one in sample.completion.likelihoods]
            for one, likelihood in zip(given, sample.completion.likelihoods, strict=True):
                assert one[2:] == pytest.approx([likelihood.total, likelihood.per_token, likelihood.per_byte], abs=1e-6)
        assert samples == {}


def test_samples_of_an_item_stand_together_and_in_order(packed: tuple[list[StoredRun], Packed]) -> None:
    runs, page = packed
    (place,) = [at for at, run in enumerate(runs) if run.about.protocol.name == "thinking"]  # type: ignore[union-attr]
    index = opened(page, f"run-{place}")
    assert index["items"] == [item for item in range(5) for _ in range(4)]
    assert index["numbers"] == [1, 2, 3, 4] * 5


def test_a_text_without_bytes_has_no_number_per_byte() -> None:
    assert _likelihood(Likelihood("", (-1.0, -0.5))) == ["", 2, -1.5, -0.75, None]


@pytest.fixture(scope="module")
def shapes(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "shapes.html"
    path.write_text(make(load_suite(), folder / "results", data(folder)).text, encoding="utf-8")
    return path


def choose(watched: Any, name: str) -> Any:
    """Chooses the first run whose name has these words, and returns the rows of the list."""
    run = watched.page.get_by_label("Run", exact=True)
    label = next(text for text in run.locator("option").all_text_contents() if name in text)
    run.select_option(label=label)
    watched.until("name => document.querySelector('#sample-list caption').textContent.startsWith(name)", label)
    return watched.page.locator("#sample-list tbody tr")


def test_likelihoods_are_a_table_with_the_likeliest_and_the_right_one_marked(
    open_file: Callable[[Path], Any], shapes: Path
) -> None:
    watched = open_file(shapes)
    choose(watched, "letters full").nth(1).get_by_role("button").click()
    table = watched.page.locator("#sample-sheet .likelihoods")
    assert [text.split() for text in table.locator("tbody tr").all_inner_texts()] == [
        ["A", "likeliest", "-0.2500", "-0.2500", "-0.2500", "1"],
        ["B", "right", "answer", "-1.5000", "-1.5000", "-1.5000", "1"],
        ["C", "-2.0000", "-2.0000", "-2.0000", "1"],
        ["D", "-0.5000", "-0.5000", "-0.5000", "1"],
    ]
    assert table.locator("strong").all_inner_texts() == ["-0.2500"] * 3
    watched.page.get_by_text("The same item in 1 other run").click()
    others = watched.page.locator("#sample-sheet table", has_text="Other runs")
    assert "the same text" in others.inner_text()
    others.get_by_role("button").click()
    watched.until("!document.querySelector('#sample-list caption').textContent.includes('llama2-like')")
    sheet = watched.page.locator("#sample-sheet")
    sheet.get_by_role("heading", name="q1", exact=True).wait_for()
    assert not watched.said


def test_a_given_text_is_no_markup_and_is_found(open_file: Callable[[Path], Any], shapes: Path) -> None:
    watched = open_file(shapes)
    rows = choose(watched, "endings full")
    watched.page.get_by_label("Find in questions and completions").fill("then 4 4")
    watched.until("document.querySelectorAll('#sample-list tbody tr').length === 1")
    rows.first.get_by_role("button").click()
    table = watched.page.locator("#sample-sheet .likelihoods")
    assert table.locator(".given").all_text_contents()[2] == " <b>No</b>"
    assert table.locator("b").count() == 0
    assert not watched.said


def test_samples_of_an_item_fold_under_it(open_file: Callable[[Path], Any], shapes: Path) -> None:
    watched = open_file(shapes)
    rows = choose(watched, "dice thinking")
    assert [text.split("\t") for text in rows.all_inner_texts()][:2] == [
        ["d0\nHow many in 0?\n", "2 ok, 1 no answer, 1 unfinished reasoning", "even", "2 of 4 right", "2 of 4 right", ""],
        ["d1\nHow many in 1?\n", "2 ok, 1 no answer, 1 unfinished reasoning", "odd", "1 of 4 right", "1 of 4 right", ""],
    ]
    status = watched.page.locator("#sample-list [role=status]")
    assert status.inner_text() == "1 to 5 of 5 items, 20 samples"
    name = watched.page.locator("#sample-list .disclose", has_text="d1")
    name.click()
    assert name.get_attribute("aria-expanded") == "true"
    assert watched.page.evaluate("document.activeElement.textContent") == "d1"
    assert rows.count() == 9
    assert rows.nth(3).inner_text().split("\t")[:2] == ["sample 2", "unfinished reasoning"]
    rows.nth(4).get_by_role("button").click()
    sheet = watched.page.locator("#sample-sheet")
    assert sheet.locator("h3").inner_text() == "d1#3"
    assert sheet.locator(".question").inner_text() == "How many in 1?"
    sheet.get_by_text("3 other samples of this item").click()
    sheet.get_by_role("button", name="Sample 1").click()
    watched.until("document.querySelector('#sample-sheet h3').textContent === 'd1#1'")
    address = watched.page.url
    assert address.endswith("/d1%231")
    watched.page.get_by_label("Class", exact=True).select_option("unfinished_reasoning")
    watched.until("document.querySelectorAll('#sample-list tbody tr').length === 10")
    assert status.inner_text() == "1 to 5 of 5 items, 5 samples"
    assert "2 of 4 right" in rows.first.inner_text()
    colour = "getComputedStyle(document.querySelector('#sample-list td.class.{}')).color"
    unsure = watched.page.evaluate("(() => { const p = document.createElement('i'); p.style.color = 'var(--unsure)';"
                                   "document.body.append(p); return getComputedStyle(p).color; })()")  # fmt: skip
    assert watched.page.evaluate(colour.format("unfinished_reasoning")) == unsure
    watched.page.goto("about:blank")
    watched.page.goto(address)
    watched.page.wait_for_selector("#sample-sheet h3")
    assert sheet.locator("h3").inner_text() == "d1#1"
    assert "5 unfinished reasoning" in watched.page.locator("#runs .card", has_text="reasoning is cut").inner_text()
    assert not watched.said
