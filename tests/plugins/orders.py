"""Declares the plug-ins of this folder as an installed package would, and orders runs of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from plugins import dice, endings, letters

from tulu_eval import Benchmark, plugins
from tulu_eval.backends.base import EngineSettings
from tulu_eval.runs.order import Order

PLUGINS: dict[str, type[Benchmark]] = {"letters": letters.Letters, "endings": endings.Endings, "dice": dice.Dice}
ROWS: dict[str, list[dict[str, str]]] = {
    "letters": [
        {"id": f"q{n}", "question": f"Question {n}?\nA. one\nB. two", "answer": "ABCD"[n % 4], "subject": "xyz"[n % 3]}
        for n in range(9)
    ],
    "endings": [
        {"id": f"s{n}", "question": f"Ann has {n} pens.", "endings": f" She buys {n} more.| She eats.| <b>No</b>| Then {n} {n}"}
        for n in range(6)
    ],
    "dice": [{"id": f"d{n}", "question": f"How many in {n}?", "answer": ("even", "odd")[n % 2]} for n in range(5)],
}


def declare(patch: pytest.MonkeyPatch) -> None:
    """Makes the plug-ins known until the patch is undone."""

    class Declared:
        def __init__(self, name: str) -> None:
            self.name = name

        def load(self) -> type[Benchmark]:
            return PLUGINS[self.name]

    before = plugins.declared
    mine: dict[str, Any] = {plugins.BENCHMARKS: tuple(map(Declared, PLUGINS))}
    patch.setattr(plugins, "declared", lambda group: (*before(group), *mine.get(group, ())))


def order(model: Path, folder: Path, name: str, **changes: Any) -> Order:
    """Returns the order of a plug-in's run under a folder, where its rows are written, too."""
    data = folder / f"{name}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS[name]))
    settings = EngineSettings(dtype="float32", device="cpu")
    return Order(name, str(model), data=data, settings=settings, output=folder / "results", **changes)
