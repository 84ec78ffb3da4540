"""The leaderboard: all runs under a results folder in one HTML file, with the suite's published numbers beside them.

If a folder cannot be read, or its files do not match each other, the page names it with the reason and shows no result of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tulu_eval.findings.table import arrange
from tulu_eval.findings.table_columns import TITLES, all_columns
from tulu_eval.records import STATUSES
from tulu_eval.registry import Suite
from tulu_eval.reports import board, curves, page
from tulu_eval.reports.layout import data as plain_data
from tulu_eval.reports.samples import pack
from tulu_eval.runs.prompts import PromptSource
from tulu_eval.runs.reading import StoredRun, find_runs
from tulu_eval.store.manifest import LEDGER
from tulu_eval.store.packed import there
from tulu_eval.store.sample_line import Sample
from tulu_eval.version import __version__


@dataclasses.dataclass(frozen=True, slots=True)
class Leaderboard:
    """The page.

    Attributes:
        trained: Number of training runs on the page.
        problems: Folders that the page does not show, with the reason, one line each.
        promptless: Reasons why the prompts of a benchmark are not on the page, one line each.
    """

    text: str
    runs: int
    trained: int
    problems: tuple[str, ...]
    promptless: tuple[str, ...]


def make(
    suite: Suite,
    results: Path,
    data: Mapping[str, Path],
    each: Callable[[Sequence[Path]], Iterable[Path]] = iter,
    training: Path | None = None,
) -> Leaderboard:
    """Returns the page of all runs under a folder.

    ``data`` has files with the items of benchmarks, by benchmark, for the prompts' text; ``each`` iterates over the run folders
    while they are read, and may show progress; ``training`` is ``None`` for no training runs.
    """
    found, unusable = find_runs(results, each)
    problems = [line.replace(f"{results}/", "") for line in unusable]  # to not reveal the machine's folders
    runs: list[tuple[StoredRun, list[Sample]]] = [
        (run, list(run.samples()) if there(run.folder / LEDGER) else []) for run in found
    ]
    table = arrange(suite, [run for run, _ in runs], problems, all_columns)
    trained, broken = curves.find(training) if training else ([], [])
    problems += broken
    packed = pack(runs, PromptSource(data))
    shown = [run for run, _ in runs]
    content = {
        "version": __version__,
        "statuses": STATUSES,
        "charts": board.charts(table, suite),
        "board": board.rows(table, suite, {run.folder: place for place, run in enumerate(shown)}),
        "runs": [{**board.run(run, results), **about} for run, about in zip(shown, packed.runs, strict=True)],
        "groups": packed.groups,
        "training": [f"{run['name']} ({run['stage']})" for run in trained],
        "problems": problems,
        **_suite(suite),
    }
    parts = {f"training-{place}": page.squeeze(run) for place, run in enumerate(trained)}
    text = page.render("tulu-eval: published and measured", content, packed.blobs | parts)
    why = tuple(dict.fromkeys(about["promptless"] for about in packed.runs if about["promptless"]))
    return Leaderboard(text, len(shown), len(trained), tuple(problems), why)


def _suite(suite: Suite) -> dict[str, Any]:
    """Returns the models and the contradictions of the registry."""
    cells = suite.cells()
    fields = (
        "hub_id",
        "name",
        "stage",
        "size",
        "base",
        "reward_model",
        "value_model",
        "preference_split",
        "sft_data",
        "prompts",
    )
    models = []
    for model in suite.models:
        numbers = [
            f"{title} {' / '.join(values)}"
            for key, title in TITLES.items()
            if (
                values := dict.fromkeys(
                    f"{cell.value:.1f}" for cell in cells if (cell.model, cell.metric_key) == (model.hub_id, key)
                )
            )
        ]
        models.append({**{name: getattr(model, name) for name in fields}, "numbers": numbers})
    contradictions = [
        {
            **{key: value for key, value in plain_data(one).items() if key in ("id", "first", "second", "advice", "models")},
            "title": one.title or one.first,
            "cells": len(one.cells),
            "first_source": str(suite.sources[one.first_source]),
            "second_source": str(suite.sources[one.second_source]),
        }
        for one in suite.contradictions()
    ]
    return {"models": models, "contradictions": contradictions}
