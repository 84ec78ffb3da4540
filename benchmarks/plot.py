"""Draws what the benchmarks measured: seconds beside the peers', every repetition a dot.

    python benchmarks/plot.py --out benchmarks/speed.svg "32 prompts, transformers"=hf.json "whole command"=command.json

Each file is what a benchmark wrote with ``--json``: engine to the seconds of its repetitions; the first engine is tulu-eval.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path


def main() -> None:
    """Reads the files and writes the picture."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "tulu-eval"  # the same figures give the same file
    from matplotlib import pyplot as plt

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("panels", nargs="+", metavar="TITLE=FILE")
    parser.add_argument("--out", type=Path, required=True)
    order = parser.parse_args()
    panels = [panel.rpartition("=")[::2] for panel in order.panels]
    measured = [(title, json.loads(Path(name).read_text())) for title, name in panels]
    sizes = [len(found) for _, found in measured]
    figure, axes = plt.subplots(
        len(measured), 1, figsize=(7, 0.9 + 0.42 * sum(sizes) + 0.75 * len(sizes)), height_ratios=sizes, squeeze=False
    )
    for axis, (title, found) in zip(axes[:, 0], measured, strict=True):
        medians = [statistics.median(seconds) for seconds in found.values()]
        colours = ["#1b6e53" if engine.startswith("tulu-eval") else "#b8b8b8" for engine in found]
        axis.barh(list(found), medians, color=colours, height=0.62)
        for at, (seconds, median) in enumerate(zip(found.values(), medians, strict=True)):
            axis.plot(seconds, [at] * len(seconds), "o", color="#222222", markersize=3)
            axis.annotate(f"{median:.1f} s", (max(seconds), at), xytext=(6, 0), textcoords="offset points", va="center")
        axis.invert_yaxis()
        axis.set_title(title, loc="left", fontsize=10)
        axis.set_xlim(0, 1.18 * max(max(seconds) for seconds in found.values()))
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1, 0].set_xlabel("seconds: median, every repetition a dot")
    figure.tight_layout()
    figure.savefig(order.out, metadata={"Date": None})


if __name__ == "__main__":
    main()
