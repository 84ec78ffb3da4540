"""Training runs read for the page: whole, going on, cut, broken."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tulu_eval.reports import curves


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "runs"))


def test_every_number_of_every_step_is_there(trained: Path) -> None:
    (ppo, rm), problems = curves.find(trained)
    assert not problems
    assert (ppo["name"], ppo["stage"], ppo["done"], ppo["planned"]) == ("a-ppo", "ppo", 20, 20)
    assert ppo["steps"] == list(range(1, 21))
    assert ppo["curves"]["score"] == [step - 4.5 for step in range(20)]
    assert ppo["curves"]["policy_gradient_norm"][5] is None, "what was not finite is a gap"
    assert "time" not in ppo["curves"]
    assert [step for step, _ in ppo["rollouts"]] == [1, 11]
    assert [(one["step"], one["gain"], one["needed"]) for one in ppo["probe"]][1][:2] == (10, 25.0)
    assert ppo["settings"][0] == ["model", "start", "command line"], "of a path, its last part"
    assert rm["done"] == 20, "a line that is being written is not there yet"
    assert rm["rollouts"] == rm["probe"] == []


def test_many_steps_are_thinned_and_the_last_is_there(copied: Path) -> None:
    lines = [json.dumps({"step": step, "loss": float(step)}) for step in range(4501)]
    (copied / "b-rm" / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    found = curves.read(copied / "b-rm")
    assert found["done"] == 4501
    assert len(found["steps"]) <= curves.MOST_STEPS + 1
    assert (found["steps"][0], found["steps"][-1]) == (1, 4501)
    assert found["curves"]["loss"][-1] == 4500.0


def test_numbers_that_json_does_not_have_are_gaps(copied: Path) -> None:
    with (copied / "a-ppo" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 20, "loss": NaN, "kl": Infinity}\n')
    found = curves.read(copied / "a-ppo")
    assert found["curves"]["loss"][-1] is found["curves"]["kl"][-1] is None
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "metrics.jsonl").write_text('{"step": 0}\nnonsense\n{"step": 2}\n'), "metrics.jsonl:2: "),
        (lambda folder: (folder / "metrics.jsonl").write_text('{"step": 0, "loss": "low"}\n'), "is not a training run"),
        (lambda folder: (folder / "metrics.jsonl").write_text('{"step": 0, "loss": [1]}\n'), "is not a training run"),
        (lambda folder: (folder / "metrics.jsonl").write_bytes(b"\xff\xfe"), "cannot be read as text"),
        (
            lambda folder: (folder / "samples.jsonl").write_text('{"step": 0, "samples": [{"prompt": "x"}]}\n'),
            "is not a training",
        ),
        (lambda folder: (folder / "probe.jsonl").write_text('{"step": 0}\n'), "is not a training run"),
        (lambda folder: (folder / "manifest.json").write_text("{}"), "is not the manifest of a training run"),
        (lambda folder: (folder / "manifest.json").unlink(), "is not the manifest of a training run"),
    ],
)
def test_a_broken_one_is_named_and_the_others_are_shown(copied: Path, damage: Callable[[Path], object], said: str) -> None:
    damage(copied / "a-ppo")
    found, problems = curves.find(copied)
    assert [run["name"] for run in found] == ["b-rm"]
    (line,) = problems
    assert line.startswith("a-ppo")
    assert said in line
    assert str(copied) not in line
