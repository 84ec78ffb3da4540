"""Training from Python: plans, changed values, and one line for each mistake."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

import tulu_eval


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """24 sums to learn."""
    path = tmp_path / "sft.jsonl"
    turns = [[{"role": "user", "content": f"{n} + 1?"}, {"role": "assistant", "content": f"{n + 1}."}] for n in range(24)]
    path.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in turns))
    return path


def test_a_plan_knows_the_recipe_at_once_and_the_rest_when_asked(llama3_like: Path, rows: Path) -> None:
    plan = tulu_eval.plan_training(
        "sft", "tiny", model=llama3_like, data=rows, device="cpu", settings={"batch": "8"}, micro_tokens=40
    )
    recipe = plan.recipe.recipe
    assert (recipe.batch, recipe.micro_tokens) == (8, 40)
    assert (plan.device, plan.world) == ("cpu", 1)
    assert plan.job.steps == 3 * recipe.epochs
    off = tulu_eval.plan_training("ppo", "tiny", device="cpu", no_eos_reward=None, whiten_rewards=True).recipe.recipe
    assert off == dataclasses.replace(off, no_eos_reward=None, whiten_rewards=True)  # type: ignore[call-arg]
    nowhere = tulu_eval.plan_training("sft", "tiny", model="nowhere/at-all", data=rows, device="cpu")
    assert nowhere.recipe.name == "tiny"
    with pytest.raises(tulu_eval.UserError):
        _ = nowhere.job


def test_training_is_silent_or_draws_a_bar(llama3_like: Path, rows: Path, capfd: pytest.CaptureFixture[str]) -> None:
    what: dict[str, Any] = {"model": llama3_like, "data": [rows], "device": "cpu", "output": "out", "batch": 8}
    done = tulu_eval.train("sft", "tiny", **what, progress=False)
    assert done.finished
    assert done.models == [Path("out/policy")]
    assert capfd.readouterr() == ("", "")
    tulu_eval.train("sft", "tiny", **what, fresh=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "3/3" in err


@pytest.mark.parametrize(
    ("stage", "more", "message"),
    [
        ("stf", {}, "unknown stage 'stf'. Did you mean 'sft'?"),
        ("sft", {"rollouts": "vlm"}, "unknown kind of rollouts 'vlm'"),
        ("sft", {"rollout_memory": 0.0}, "rollout_memory is a fraction above 0, at most 1, not 0.0"),
        ("sft", {"save_every": 0}, "save_every must be 1 or more, not 0"),
        ("sft", {"probe": "gsm8k"}, "probe is for ppo, not sft"),
        ("sft", {"device": "tpu"}, "training does not run on device 'tpu' here; use device auto"),
        ("sft", {"learning_rat": 1}, "unknown key 'learning_rat'"),
        ("sft", {"settings": {"batch": "many"}}, "batch"),
    ],
)
def test_what_cannot_be_done_is_said_in_parameters(stage: Any, more: dict[str, Any], message: str, rows: Path) -> None:
    with pytest.raises(tulu_eval.UserError) as caught:
        tulu_eval.train(stage, "tiny", data=rows, progress=False, **{"device": "cpu", **more})
    assert message in str(caught.value)
    assert "--" not in str(caught.value)
