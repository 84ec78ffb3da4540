"""Several models with one engine: weights go into it where they can, a fresh one where not, and the manifest says which."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest

from tulu_eval.backends.base import ReloadError
from tulu_eval.backends.hf.backend import TransformersBackend
from tulu_eval.errors import PreflightError
from tulu_eval.registry import load_suite
from tulu_eval.runs.order import Order
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.run_plan import Plan, make_plan
from tulu_eval.runs.runner import execute, execute_all
from tulu_eval.store import manifest as files

QUIET = Progress(quiet=True)


class Reloading(TransformersBackend):
    """The real backend, which takes another model's weights by loading them; a model called ``odd`` it refuses."""

    history: list[str]
    there: TransformersBackend | None = None

    @classmethod
    def load(cls, model: Any, settings: Any, eos_ids: Any, max_length: int) -> Any:
        Reloading.history.append(f"load {model.name}")
        return super().load(model, settings, eos_ids, max_length)

    def reload(self, model: Any, settings: Any, eos_ids: Any, max_length: int, probe: tuple[int, ...]) -> None:
        assert probe
        if model.name == "odd":
            raise ReloadError("its config differs")
        Reloading.history.append(f"reload {model.name}")
        other = TransformersBackend.load(model, settings, eos_ids, max_length)
        self._model = other._model
        self.there = other

    def describe(self) -> dict[str, str]:
        return {**super().describe(), **({"weights": "put into the engine"} if self.there else {})}

    def close(self) -> None:
        Reloading.history.append("close")
        super().close()


def plan_of(order: Order, backend: Any = Reloading, **changes: Any) -> Plan:
    plan = make_plan(dataclasses.replace(order, **changes), load_suite())
    return dataclasses.replace(plan, backend=backend, decoding=dataclasses.replace(plan.decoding, max_new_tokens=6))


@pytest.fixture
def models(order: Order, tmp_path: Path) -> dict[str, str]:
    """Checkpoints whose last weight differs."""
    Reloading.history = []
    found = {}
    for place, name in enumerate(("sft", "odd", "ppo"), start=1):
        folder = Path(shutil.copytree(order.model, tmp_path / name))
        weights = bytearray((folder / "model.safetensors").read_bytes())
        weights[-2] ^= place
        (folder / "model.safetensors").write_bytes(weights)
        found[name] = str(folder)
    return found


def test_weights_go_into_the_running_engine_or_a_fresh_one_starts(
    order: Order, models: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    plans = [plan_of(order, model=models[name], name=name, limit=limit) for name in ("sft", "ppo", "odd") for limit in (2, 3)]
    outcomes = execute_all(plans, Progress(terminal=False))
    assert Reloading.history == ["load sft", "reload ppo", "close", "load odd", "close"]
    err = capsys.readouterr().err
    assert "ppo: its weights are in the running engine after" in err
    assert "odd gets a fresh engine: its config differs" in err
    engines = [files.read_manifest(outcome.folder).engine.get("weights") for outcome in outcomes]
    assert engines == [None, None, "put into the engine", "put into the engine", None, None]
    alone = execute(
        plan_of(order, TransformersBackend, model=models["ppo"], name="ppo", limit=3, output=order.output / "alone"), QUIET
    )
    assert (alone.folder / files.RESULT).read_bytes() == (outcomes[3].folder / files.RESULT).read_bytes()
    assert [outcome.generated for outcome in execute_all(plans, QUIET)] == [0] * 6
    assert len(Reloading.history) == 5, "nothing to do needs no engine"


def test_transformers_loads_each_model_and_says_nothing(
    order: Order, models: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    plans = [plan_of(order, TransformersBackend, model=models[name], name=name, limit=2) for name in ("sft", "ppo")]
    assert [outcome.generated for outcome in execute_all(plans, Progress(terminal=False))] == [2, 2]
    err = capsys.readouterr().err
    assert err.count("loading ") == 2
    assert "fresh" not in err


def test_a_model_that_does_not_fit_is_found_before_any_is_loaded(order: Order, models: dict[str, str]) -> None:
    class Picky(Reloading):
        @classmethod
        def check(cls, model: Any, settings: Any) -> None:
            if model.name == "ppo":
                raise PreflightError("ppo does not fit")

    plans = [plan_of(order, Picky, model=models[name], name=name, limit=2) for name in ("sft", "ppo")]
    with pytest.raises(PreflightError, match="ppo does not fit"):
        execute_all(plans, QUIET)
    assert Reloading.history == []
    assert not plans[0].folder.exists()
