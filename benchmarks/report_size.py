"""How large the page of ``tulu-eval report`` gets, and how soon it is there: 50 runs of all 1319 items of GSM8K.

    python benchmarks/report_size.py --data test.jsonl

The runs are made by the real planner and runner with a writer of made-up solutions in the engine's place. A solution is about
as long as GSM8K's own are, two in a hundred are cut off at five times that; it is of made-up words drawn by Zipf's law,
numbers and sums. No two runs share a sentence, so what runs of related models have in common does not help the compression.
Prints how well such text is compressed beside GSM8K's own solutions, the size of the page and what it consists of, and, in
headless Chromium with an empty cache, the milliseconds until the leaderboard is drawn and until a sample can be read.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import random
import re
import shutil
import statistics
import tempfile
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tulu_eval.backends.base import Backend
from tulu_eval.records import Completion, Decoding, Request
from tulu_eval.registry import load_suite
from tulu_eval.reports.report import make
from tulu_eval.runs.order import Order
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.run_plan import make_plan
from tulu_eval.runs.runner import execute
from tulu_eval.testing import ScriptedBackend

WORDS = 3000
READY = "performance.getEntriesByName('tulu-eval-ready')[0]?.startTime ?? 0"
LEADERBOARD = "document.querySelectorAll('#board tbody tr').length"


class Words:
    """Writes made-up solutions."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)
        syllables = [a + b + c for a in "bcdfghlmnprst" for b in "aeiou" for c in ("", "n", "r", "s", "l")]
        spell = random.Random(0)
        self._words = ["".join(spell.choices(syllables, k=1 + rank // 300 if rank < 900 else 3)) for rank in range(WORDS)]
        self._weights = list(itertools.accumulate(1 / (rank + 1) ** 1.15 for rank in range(WORDS)))

    def solution(self, target: str, right: bool) -> tuple[str, str]:
        """Returns a solution's text and why it ended."""
        cut = self._draw.random() < 0.02
        length = 1400 if cut else self._draw.gauss(205, 80)
        sentences: list[str] = []
        while sum(map(len, sentences)) < length:
            sentences.append(self._sentence())
        answer = target if right else str(self._draw.randrange(200))
        ending = [] if cut else [f"So the answer is {answer}."]
        return " " + " ".join([*sentences, *ending]), "length" if cut else "stop"

    def _sentence(self) -> str:
        words = self._draw.choices(self._words, cum_weights=self._weights, k=self._draw.randint(5, 14))
        a, b = self._draw.randrange(2, 100), self._draw.randrange(2, 40)
        sums = [f"{a} + {b} = {a + b}", f"{a} * {b} = {a * b}", f"${a}.{b:02d}", str(a)]
        words.insert(self._draw.randrange(1, len(words)), self._draw.choice(sums))
        return " ".join(words).capitalize() + "."


def engine(run: int, targets: dict[str, str]) -> type[Backend]:
    """Returns an engine that writes one run's solutions; the run decides how many of them are right."""
    words, chance = Words(run), random.Random(run)

    def solution(request: Request, decoding: Decoding) -> Completion:
        text, end = words.solution(targets[request.key], chance.random() < 0.2 + run / 100)
        return Completion(request.key, text, tuple(range(len(text) // 4)), end, 0.0)

    described = {"engine": "made-up words", "device": "cpu", "dtype": "bfloat16"}
    return ScriptedBackend.of(solution, name="transformers", described=described)


def write_runs(root: Path, runs: int, data: Path) -> None:
    """Writes the run folders: the suite's models first, then others."""
    plan = make_plan(Order("gsm8k", "smollm2-135m-instruct", "full", data, backend="transformers", output=root), load_suite())
    targets = {one.request.key: one.item.target for one in plan.planned}
    names = [model.hub_id for model in load_suite().models] + [f"lab/checkpoint-{number}" for number in range(runs)]
    for run, name in enumerate(names[:runs]):
        model = dataclasses.replace(plan.model, name=name, revision=f"{run:08x}")
        execute(dataclasses.replace(plan, model=model, backend=engine(run, targets)), Progress(quiet=True))


def packed(texts: Sequence[str]) -> float:
    """Returns what share of 64 KiB of texts is left when they are compressed."""
    raw = "\n".join(texts).encode()[: 1 << 16]
    return len(zlib.compress(raw, 9)) / len(raw)


def compare_texts(data: Path) -> None:
    """Prints length and compression of made-up solutions beside GSM8K's own."""
    own = [json.loads(line)["answer"] for line in data.read_text(encoding="utf-8").splitlines()]
    words = Words(0)
    made = [words.solution("18", True)[0] for _ in own]
    for name, texts in (("GSM8K's own solutions", own), ("made-up solutions", made)):
        print(f"{name}: {statistics.mean(map(len, texts)):.0f} characters, compressed to {100 * packed(texts):.0f} %")


def parts(text: str) -> dict[str, float]:
    """Returns megabytes of what a page consists of."""
    found = re.findall(r'<script type="text/plain" id="(\w+)-[\d-]+">(.*?)</script>', text, re.DOTALL)
    sizes = {kind: sum(len(body) for name, body in found if name == kind) / 1e6 for kind in dict.fromkeys(n for n, _ in found)}
    return sizes | {"rest": len(text) / 1e6 - sum(sizes.values())}


def load(browser: Any, page: Path) -> list[float]:
    """Opens a page in a new profile; returns ms to the drawn leaderboard, the next frame, and the first sample opened."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    tab = context.new_page()
    tab.goto(page.as_uri(), wait_until="commit")
    while not (ready := tab.evaluate(READY)):
        time.sleep(0.02)
    rows = tab.evaluate(LEADERBOARD)
    frame = tab.evaluate("new Promise((done) => requestAnimationFrame(() => done(performance.now())))")
    tab.wait_for_selector("#sample-list tbody tr")
    listed = tab.evaluate("performance.now()")
    began = tab.evaluate("performance.now()")
    tab.locator("#sample-list .disclose").first.click()
    tab.wait_for_selector("#sample-sheet .completion")
    opened = tab.evaluate("performance.now()") - began
    context.close()
    if not rows:
        raise SystemExit("no row of the leaderboard was drawn")
    return [ready, frame, listed, opened]


def main() -> None:
    """Measures and prints."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/gsm8k/test.jsonl"))
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--page", type=Path, help="measure this page's load only")
    parser.add_argument("--keep", type=Path, help="write the page here")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        page = given.page
        if page is None:
            compare_texts(given.data)
            write_runs(Path(folder) / "results", given.runs, given.data)
            began = time.perf_counter()
            found = make(load_suite(), Path(folder) / "results", {"gsm8k": given.data})
            if found.problems or found.runs != given.runs:
                raise SystemExit("\n".join(["runs were left out", *found.problems]))
            page = given.keep or Path(folder) / "report.html"
            page.write_text(found.text, encoding="utf-8")
            print(f"made in {time.perf_counter() - began:.1f} s")
        text = page.read_text(encoding="utf-8")
        shares = ", ".join(f"{name} {size:.1f}" for name, size in parts(text).items())
        print(f"page: {page.stat().st_size / 1e6:.1f} MB ({shares})")
        with sync_playwright() as tool:
            browser = tool.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"])
            times = [load(browser, page) for _ in range(given.repeats)]
            browser.close()
    names = ("leaderboard drawn", "next frame", "samples listed", "a sample opened, from the click")
    for name, column in zip(names, zip(*times, strict=True), strict=True):
        print(f"{name}: {statistics.median(column):.0f} ms (median of {len(times)}, {min(column):.0f} to {max(column):.0f})")


if __name__ == "__main__":
    main()
