"""Who may import whom (CONTRIBUTING.md), and what a light command must not import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tulu_eval

PACKAGE = Path(tulu_eval.__file__).parent
RANK = {
    "cli": 0,
    "reports": 1, "training": 1,
    "runs": 2,
    "benchmarks": 3, "backends": 3, "judging": 3, "registry": 3, "stats": 3,
    "hub": 4, "caching": 4, "endpoint": 4,
    "files": 5,
    "records": 6, "errors": 6, "__init__": 6, "__main__": -1,
}  # fmt: skip
"""A room imports rooms of a higher number only, or, where :data:`SIDEWAYS` says so, of its own."""

SIDEWAYS = {("judging", "stats"), ("judging", "benchmarks")}
"""Pairs of one rank that may meet: a judge's scores are statistics, and what is judged are answers to a benchmark's items."""


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imports() -> list[tuple[str, str, str]]:
    """(importing room, imported room, place) of every import inside the package, those inside functions included."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        inner = path.relative_to(PACKAGE)
        here = inner.parts[0] if len(inner.parts) > 1 else inner.stem
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "tulu_eval" else [node.module]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                if name == "tulu_eval" or name.startswith("tulu_eval."):
                    there = room_of(name)
                    found.append((here, there if there in RANK else "__init__", f"{inner}:{node.lineno}"))
    return found


def test_imports_go_down_only() -> None:
    wrong = [
        f"{place}: {here} imports {there}"
        for here, there, place in imports()
        if here != there and (here, there) not in SIDEWAYS and RANK[there] <= RANK[here]
    ]
    assert not wrong, "\n".join(wrong)


def test_reports_compute_nothing() -> None:
    """They format fields of results; what has to be computed is a result's field."""
    assert [place for here, there, place in imports() if (here, there) == ("reports", "stats")] == []


def test_every_room_has_a_rank() -> None:
    rooms = {path.name if path.is_dir() else path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert rooms - {"__pycache__"} <= set(RANK)


HEAVY = (
    "torch",
    "transformers",
    "vllm",
    "datasets",
    "alpaca_eval",
    "sklearn",
    "pandas",
    "scipy",
    "numpy",
    "openai",
    "huggingface_hub",
)


@pytest.mark.parametrize("statement", ["import tulu_eval", "import tulu_eval.cli"])
def test_nothing_heavy_is_imported(statement: str) -> None:
    code = f"import sys\n{statement}\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_only_the_worker_and_the_judge_in_process_import_vllm() -> None:
    importing = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] == "vllm" for name in names):
                importing.add(path.name)
    assert importing == {"vllm_worker.py", "vllm_judge.py"}
