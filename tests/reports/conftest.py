"""A results folder with runs of every kind that a report must show or refuse, and a browser to open the page in."""

from __future__ import annotations

import functools
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HOSTILE = (
    ' </script><script>window.hacked = 1</script><img src=x onerror="window.hacked = 2">'
    "<style>body{display:none}</style> <!-- <b>bold</b> &lt;i&gt; ${7*7} \u2028 \ud800 So the answer is 5."
)
"""What a model may write: the end of a script, an image that runs code, half a character. It is the answer to item five."""


@pytest.fixture
def hostile() -> str:
    return HOSTILE


FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory, make_run_in: Callable[..., Path]) -> Path:
    """Six run folders: four that are whole, one whose ledger was edited by hand, one of another version."""
    root = tmp_path_factory.mktemp("report")

    def write(place: int, right: bool) -> str:
        if place == 4:
            return HOSTILE
        if place == 5:
            return ""
        if place == 6:
            return " I do not know."
        if place == 7:
            return f" So the answer is {place + 1}. Then there are 99 more."
        return f" First we add.\nSo the answer is {place + 1 if right else 0}."

    target = "allenai/llama-3-tulu-v2.5-8b-uf-mean-70b-uf-rm"
    make_run_in(root, 121, model=target, revision="4d3fa46c", write=write, failed=2)
    make_run_in(root, 97, model="allenai/tulu-2-13b", revision="2a2b2c2d")
    make_run_in(root, lambda place: place % 3 > 0, protocol="full", model="allenai/llama-3-tulu-2-8b", revision="3a3b3c3d")
    make_run_in(root, 30, limit=50, model="my/checkpoint", revision="sha256:55", write=write)
    edited = make_run_in(root, 60, model="my/edited", revision="sha256:66", limit=80)
    ledger = edited / "samples.jsonl"
    ledger.write_bytes(ledger.read_bytes().replace(b'"score":0.0', b'"score":1.0', 3))
    other = make_run_in(root, 10, model="my/other-version", revision="sha256:77", limit=20)
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps({**manifest, "format": 99}))
    return root / "results"


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two training runs, written by what training writes with: one of PPO that was watched, one of a reward model."""
    from tulu_eval.training.watching import metrics, watch

    root = tmp_path_factory.mktemp("training")
    for name, stage in (("a-ppo", "ppo"), ("b-rm", "rm")):
        folder = root / name
        folder.mkdir()
        manifest = {
            "version": "0.1.0", "stage": stage, "recipe": {"name": "tiny", "sha256": "f" * 64, "about": "A test."},
            "settings": {"model": {"value": str(root / "start"), "source": "command line"},
                         "seed": {"value": 42, "source": "EL"}},
            "model": "start", "reward_model": "", "rows_kept": 2000, "rows_dropped": {"too long": 3}, "steps": 20, "ranks": 1,
            "commit": "c0ffee", "machine": {"cpu": "a cpu"},
        }  # fmt: skip
        (folder / "manifest.json").write_text(json.dumps(manifest))
    for step in range(20):
        numbers = {
            "loss": 1 / (1 + step),
            "policy_gradient_norm": None if step == 5 else 0.5,
            "tokens_per_second": 100.0 + step,
        }
        ppo = {"score": step - 4.5, "kl": step / 10, "eos_rate": 0.9, "length": 30.0, "entropy": 0.6, "clip_fraction": 0.01}
        more = {"explained_variance": 0.2, "approximate_kl": 1e-9, "something_new": 7.0}
        metrics.append(root / "a-ppo" / metrics.METRICS, step, {"time": 1.0, **numbers, **ppo, **more})
        metrics.append(root / "b-rm" / metrics.METRICS, step, {"time": 1.0, **numbers, "accuracy": 0.5 + step / 50})
        if step % 10 == 0:
            rollout = {
                "prompt": "<|user|>\nHow many?",
                "answer": HOSTILE,
                "score": -10.0,
                "kl": 0.5,
                "ended": False,
                "tokens": 9,
            }
            metrics.append(
                root / "a-ppo" / metrics.SAMPLES, step, {"samples": [rollout, {**rollout, "answer": f"It is {step}."}]}
            )
            now = [int(place < step) for place in range(40)]
            metrics.append(root / "a-ppo" / metrics.PROBE, step, watch.gain("gsm8k", [0] * 40, now))
    with (root / "b-rm" / metrics.METRICS).open("a") as file:
        file.write('{"step": 20, "lo')  # it still goes
    return root


@pytest.fixture(scope="session")
def report(results: Path, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of :func:`results` and :func:`trained`."""
    from tulu_eval.registry import load_suite
    from tulu_eval.reports.report import make

    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(make(load_suite(), results, {}, training=trained).text, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless Chromium, started once; skips where there is none, which in CI is a failure."""
    program = shutil.which("chromium")
    if program is None:
        message = "no chromium here: apt-get install chromium"
        pytest.fail(message) if os.environ.get("TULU_EVAL_REQUIRE_CHROMIUM") == "1" else pytest.skip(message)
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright here: pip install playwright")
    with playwright.sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


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
def open_file(chromium: Any) -> Iterator[Callable[..., Watched]]:
    made: list[Watched] = []

    def call(path: Path, **more: Any) -> Watched:
        made.append(Watched(chromium, path, **more))
        return made[-1]

    yield call
    for watched in made:
        watched.context.close()


@pytest.fixture
def open_page(open_file: Callable[..., Watched], report: Path) -> Callable[..., Watched]:
    return functools.partial(open_file, report)
