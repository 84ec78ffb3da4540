"""The memory tables of the examples are what the planner says today."""

from __future__ import annotations

import importlib.util
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


def test_the_page_has_the_planners_numbers() -> None:
    spec = importlib.util.spec_from_file_location("memory_example", EXAMPLES / "memory.py")
    assert spec is not None
    assert spec.loader is not None
    memory = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(memory)
    page = memory.PAGE.read_text(encoding="utf-8")
    assert memory.filled(page) == page, "python examples/memory.py writes other numbers"
    assert page.count("| fits |") == len(memory.EXAMPLES)
