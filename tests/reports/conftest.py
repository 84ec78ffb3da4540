"""A results folder with runs of every kind that a report must show or refuse, and a browser to open the page in."""

from __future__ import annotations

import json
import os
import shutil
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
def report(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of :func:`results`."""
    from tulu_eval.registry import load_suite
    from tulu_eval.reports.leaderboard import make

    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(make(load_suite(), results, {}).text, encoding="utf-8")
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
