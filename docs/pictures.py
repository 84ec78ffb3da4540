"""Draws the pictures of the pages from results of this repository: ``python docs/pictures.py`` writes ``docs/static/*.svg``.

Every point is a field of what ``verify`` or ``reproduce`` returned; nothing is typed in.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl

import tulu_eval

mpl.use("svg")
mpl.rcParams.update({"svg.hashsalt": "tulu-eval", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 11})
from matplotlib import pyplot as plt  # noqa: E402  after the choice of what draws

ROOT = Path(__file__).parents[1]
STATIC = ROOT / "docs" / "static"
COLOURS = {"consistent": "#1a7f37", "cannot tell": "#9a6700", "inconsistent": "#cf222e"}
INK = "#57606a"  # legible on white and on furo's dark ground

SMOLLM2 = ROOT / "results/smollm2-135m-instruct"
SEEDS = ROOT / "results/reproduce-sums"
SEED_0 = "tulu-eval/sums-ppo-seed-0"
REPRODUCED = ROOT / "tulu_eval/reproduction/presets/reproduced.toml"


class Case(NamedTuple):
    """A run and whose published number stands beside it; ``against`` is None for the run's own model."""

    name: str
    run: Path
    against: str | None = None
    registry: Path | None = None


CASES = (
    Case("SmolLM2, GSM8K (lighteval),\nbeside its own card", SMOLLM2 / "gsm8k/lighteval-4166544b"),
    Case("PPO of seed 1, sums,\nbeside that of seed 0", *SEEDS.glob("seed-1/sums-ppo/sums/*"), SEED_0, REPRODUCED),
    Case("SmolLM2, GSM8K (card-200),\nbeside Tulu 2 13B's number", SMOLLM2 / "gsm8k/published-fb7fab88", "tulu-2-13b"),
)


def main() -> None:
    """Draws all pictures."""
    verdicts(STATIC / "verdicts.svg")
    acts(STATIC / "acts.svg")


def verdicts(path: Path) -> None:
    """Draws measured numbers with intervals beside published ones, coloured by verdict."""
    figure, axes = plt.subplots(figsize=(8, 3))
    rows = []
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:  # a copy, in which ``verify`` may leave its note
            run = shutil.copytree(case.run, Path(folder) / "run")
            found = tulu_eval.verify(run, against=case.against, registry=case.registry)
        rows += [(case.name, one) for one in found.comparisons if one.main]
    for place, (_, one) in enumerate(reversed(rows)):
        colour = COLOURS[one.agreement.verdict]
        low, value, high = one.row.low, one.row.value, one.row.high
        axes.plot([low, high], [place, place], color=colour, linewidth=5, alpha=0.35, solid_capstyle="round")
        axes.plot(value, place, "o", color=colour, markersize=8)
        axes.plot(one.cell.value, place, "o", markerfacecolor="none", markeredgecolor=INK, markersize=11, markeredgewidth=1.8)
        text = f"{one.agreement.verdict}, n = {one.row.n}"
        axes.annotate(text, (max(high, one.cell.value), place), (14, -4), textcoords="offset points", color=colour)
    axes.set_yticks(range(len(rows)), [name for name, _ in reversed(rows)])
    axes.set_xlim(0, 125)
    axes.set_xticks(range(0, 101, 20))
    _finish(figure, axes, "percent right: dot and bar measured, ring published", path)


def acts(path: Path) -> None:
    """Draws the gains of ``reproduce``'s two acts with their intervals."""
    figure, axes = plt.subplots(figsize=(8, 3.4))
    shown = {
        ("sums-ppo", "sums-sft"): "PPO by the reward model over SFT",
        ("sums-chosen", "sums-sft"): "SFT on chosen over SFT",
    }
    shown |= {("sums-rule", "sums-ppo"): "PPO by the rule over PPO"}
    texts = [(SEEDS / f"seed-{seed}/reproduce.json").read_text(encoding="utf-8") for seed in range(3)]
    found = [(seed, gain) for seed, text in enumerate(texts) for gain in json.loads(text)["gains"]]
    pairs = [(pair, seed, gain["paired"]) for pair in shown for seed, gain in found if (gain["after"], gain["before"]) == pair]
    for place, (pair, seed, paired) in enumerate(reversed(pairs)):
        axes.plot([paired["low"], paired["high"]], [place, place], color="#0969da", linewidth=5, alpha=0.35)
        axes.plot(paired["difference"], place, "o", color="#0969da")
        text = f"{shown[pair]}, seed {seed}"
        axes.annotate(text, (paired["high"], place), (10, -4), textcoords="offset points", color=INK)
    axes.set_yticks([])
    axes.set_xlim(0, 140)
    axes.set_xticks(range(0, 101, 20))
    _finish(figure, axes, "gain in points on the same 500 questions, with 95 % interval", path)


def _finish(figure: Any, axes: Any, label: str, path: Path) -> None:
    axes.set_xlabel(label, color=INK)
    axes.tick_params(colors=INK, left=False)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(INK)
    axes.set_ylim(-0.6, axes.get_ylim()[1] + 0.3)
    figure.tight_layout()
    figure.savefig(path, transparent=True, metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
