"""Photographs the sections of the page that ``report`` makes of this repository's results: ``python docs/page_pictures.py``.

Those of :data:`KEPT` go to ``docs/images``. ``python docs/page_pictures.py FOLDER`` writes every section at every width, light
and dark, for a look at all of them. It needs chromium.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

import tulu_eval

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs/images"
DEMO = ROOT / "results/demo.toml"
TRAINED = ROOT / "results/reproduce-sums/seed-0/training"

SECTIONS = ("top", "leaderboard", "runs", "samples", "training", "suite", "contradictions")
WIDTHS = {1440: 900, 1100: 800, 390: 844}
"""Height of the window by its width: a large screen, a small one, a phone."""

KEPT = {
    "page": ("demo", 1100, "light"), "page-dark": ("top", 1440, "dark"), "page-phone": ("top", 390, "light"),
    **{f"page-{one}": (one, 1100, "light") for one in SECTIONS if one != "top"},
    "page-training-dark": ("training", 1440, "dark"), "page-training-phone": ("training", 390, "light"),
    "page-suite-dark": ("suite", 1440, "dark"), "page-suite-phone": ("suite", 390, "light"),
}  # fmt: skip
"""Pictures of the documentation: section, width and colours. ``demo`` is the top of the page that ``make demo`` makes."""


def main() -> None:
    """Photographs the kept sections, or all of them into the folder that is given."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    wanted = (
        KEPT if folder is None else {f"{s}-{w}-{c}": (s, w, c) for s in SECTIONS for w in WIDTHS for c in ("light", "dark")}
    )
    with tempfile.TemporaryDirectory() as place:
        pages = {"results": made_page(Path(place)), "demo": demo_page(Path(place) / "demo")}
        for name, png in photographs(pages, wanted):
            small = Image.open(io.BytesIO(png)).convert("RGB").quantize(128, dither=Image.Dither.NONE)
            target = (folder or IMAGES) / f"{name}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            small.save(target, optimize=True)
            print(target)


def made_page(place: Path) -> Path:
    """Makes the page of the runs of SmolLM2 and of a reproduction, with the curves of its trainings."""
    for path in TRAINED.glob("*.json"):  # kept under short names beside each other; a training's own folder has plain ones
        run = place / "training" / path.stem
        run.mkdir(parents=True)
        shutil.copy(path, run / "manifest.json")
        for more in TRAINED.glob(f"{path.stem}.*.jsonl"):
            shutil.copy(more, run / more.name.removeprefix(f"{path.stem}."))
    tulu_eval.report(ROOT / "results", output=place / "report.html", training=place / "training", registry=DEMO)
    return place / "report.html"


def demo_page(place: Path) -> Path:
    """Makes the page of ``make demo`` from the run of this repository."""
    shutil.copytree(ROOT / "results/smollm2-135m-instruct/sums", place / "smollm2-135m-instruct/sums")
    tulu_eval.report(place, output=place / "report.html", registry=DEMO)
    return place / "report.html"


def photographs(pages: dict[str, Path], wanted: dict[str, tuple[str, int, str]]) -> Iterator[tuple[str, bytes]]:
    """Yields each picture by its name: a section, from its top on, as far as the window shows it."""
    with sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"])
        for name, (section, width, colours) in wanted.items():
            window: dict[str, Any] = {"viewport": {"width": width, "height": WIDTHS[width]}, "color_scheme": colours}
            context = browser.new_context(reduced_motion="reduce", **window)
            shown = context.new_page()
            shown.goto(pages["demo" if section == "demo" else "results"].as_uri())
            prepare(shown, section)
            shown.wait_for_timeout(400)
            yield name, shown.screenshot()
            context.close()
        browser.close()


def prepare(shown: Any, section: str) -> None:
    """Chooses what a picture of a section shows, and scrolls there."""
    if section in ("top", "demo"):
        return
    place = shown.locator(f"#{section}")
    if section == "training":
        shown.get_by_label("Training run", exact=True).select_option(label="sums-ppo (ppo)")
    if section == "leaderboard":
        shown.get_by_label("Benchmark", exact=True).select_option("GSM8K")
    if section == "runs":
        place = shown.locator("#run-list > details", has_text="gsm8k lighteval").first
        place.evaluate("one => { one.open = true; one.previousElementSibling.scrollIntoView(); }")
        return
    place.evaluate("one => one.scrollIntoView()")  # with the room that the bar on top takes


if __name__ == "__main__":
    main()
