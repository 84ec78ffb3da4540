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
    "__main__": 0,
    "cli": 1,
    "api": 2,
    "reports": 3,
    "reproduction": 4,
    "model_card": 5, "training": 5,
    "findings": 6, "exchange": 6,
    "runs": 7, "testing": 7,
    "judging": 8, "backends": 8, "store": 8,
    "models": 9,
    "benchmarks": 10, "registry": 10, "stats": 10,
    "hub": 11, "caching": 11, "plugins": 11, "extras": 11, "endpoint": 11, "sandbox": 11, "stated": 11,
    "files": 12,
    "escaping": 13, "logprobs": 13,
    "records": 14, "errors": 14, "version": 14,
    "__init__": 15,
}  # fmt: skip
"""A room imports itself and rooms of a higher number."""

OFFERED = {("__init__", room) for room in ("api", "backends", "benchmarks", "errors", "models", "records", "version")}
"""The package offers names of these rooms, and fetches them when they are used (``test_the_import_fetches_nothing``)."""


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
        found += [(here, "api", f"{inner}:{line}") for line in uses_of_the_door(path)]
    return found


def uses_of_the_door(path: Path) -> list[int]:
    """Lines in which a file takes one of the package's public names, as ``tulu_eval.name`` or by ``from tulu_eval import``."""
    lines = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "tulu_eval":
            lines += [node.lineno] if node.attr in tulu_eval.__all__ else []
        elif isinstance(node, ast.ImportFrom) and node.module == "tulu_eval":
            lines += [node.lineno] if {alias.name for alias in node.names} & set(tulu_eval.__all__) else []
    return lines


def test_imports_go_down_only() -> None:
    wrong = [
        f"{place}: {here} imports {there}"
        for here, there, place in imports()
        if here != there and (here, there) not in OFFERED and RANK[there] <= RANK[here]
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
    "ray",
    "datasets",
    "alpaca_eval",
    "sklearn",
    "pandas",
    "scipy",
    "numpy",
    "openai",
    "huggingface_hub",
)


def test_the_import_fetches_nothing() -> None:
    code = "import sys\nbefore = set(sys.modules)\nimport tulu_eval\nprint(sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['tulu_eval']"


@pytest.mark.parametrize(
    "statement", ["import tulu_eval", "import tulu_eval.cli", "from tulu_eval import evaluate, verify, table"]
)
def test_nothing_heavy_is_imported(statement: str) -> None:
    code = f"import sys\n{statement}\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_few_modules_import_vllm() -> None:
    """An engine's own processes, the judge in this one, and a trainer that shares a GPU with its engine."""
    importing = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] == "vllm" for name in names):
                importing.add(path.name)
    assert importing == {"worker.py", "stream_receiver.py", "vllm_judge.py", "weight_sync.py"}


SAME_NAME = {
    "base": "the nouns of a room, in three rooms",
    "backend": "the class of an engine, in each engine's folder",
}
"""Names that several modules have that are no verb's, and why."""


def modules() -> dict[str, ast.Module]:
    """The trees of all modules by their place in the package, such as ``runs/ledger``."""
    paths = [path for path in PACKAGE.rglob("*.py") if path.stem not in {"__init__", "__main__"}]
    return {str(path.relative_to(PACKAGE).with_suffix("")): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def test_a_module_s_name_is_a_verb_s_or_its_own() -> None:
    """A verb's files are called as the verb in every room; no other two files have one name."""
    verbs = {place.partition("/")[2] for place in modules() if place.startswith("cli/")}
    places: dict[str, list[str]] = {}
    for place in modules():
        places.setdefault(place.rpartition("/")[2], []).append(place)
    assert {name: found for name, found in places.items() if len(found) > 1 and name not in verbs | set(SAME_NAME)} == {}
    assert all(len(places[name]) > 1 for name in SAME_NAME)


def test_a_public_class_s_name_is_its_own() -> None:
    places: dict[str, list[str]] = {}
    for place, tree in modules().items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(place)
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
