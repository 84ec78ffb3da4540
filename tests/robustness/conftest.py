"""The harness that changes a run folder in every way and reads it by every verb."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def beside(name: str) -> ModuleType:
    """Returns a module in this folder: tests are no package, so it is loaded by its path."""
    known = f"robustness_{name}"
    if known not in sys.modules:
        spec = importlib.util.spec_from_file_location(known, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[known] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[known]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves all of it to ``-m fuzz``: it takes long."""
    if "fuzz" not in config.option.markexpr:
        left = [item for item in items if item.get_closest_marker("fuzz")]
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]


@pytest.fixture
def cases() -> ModuleType:
    """The module ``cases.py``."""
    beside("mutations"), beside("harness")
    return beside("cases")


@pytest.fixture
def harness() -> ModuleType:
    """The module ``harness.py``."""
    return beside("harness")


@pytest.fixture
def bench(tmp_path: Path, make_run_in: Callable[..., Path], harness: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A good run of six items, as ``harness.Bench``."""
    monkeypatch.setattr("huggingface_hub.constants.is_offline_mode", lambda: True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    good = make_run_in(tmp_path / "good", 3, limit=6, model=harness.MODEL)
    return harness.Bench(tmp_path / "bench", good, f"a/gsm8k/{good.name}", harness.VERBS)


@pytest.fixture
def judged_bench(shared: Path, tmp_path: Path, harness: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Win rates of twenty real annotations, as ``harness.Bench``."""
    from tulu_eval.judging.numbers import results
    from tulu_eval.judging.session import Scoring, score_files
    from tulu_eval.runs import rescored

    monkeypatch.setattr("huggingface_hub.constants.is_offline_mode", lambda: True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    whole = shared / "data/alpaca_eval/models/claude-2/annotations_weighted_alpaca_eval_gpt4_turbo.json"
    few = tmp_path / "annotations.json"
    few.write_text(json.dumps(json.loads(whole.read_text())[:20]))
    scored = score_files(few, None, Scoring())
    good = rescored.keep(tmp_path / "good", few, scored, results(scored.score))
    place = good.relative_to(tmp_path / "good").as_posix()
    return harness.Bench(tmp_path / "bench", good, place, harness.JUDGED_VERBS)
