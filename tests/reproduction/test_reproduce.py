"""From data to a verified row: each stage done once, and a kill that loses nothing."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from click.testing import CliRunner
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from tulu_eval.benchmarks.sums import Sums
from tulu_eval.records import Decoding
from tulu_eval.reports import curves
from tulu_eval.reproduction import reproduce as whole
from tulu_eval.reproduction import rule
from tulu_eval.reproduction.acts import GAINS, MEASURED
from tulu_eval.training import launch
from tulu_eval.training.watching import metrics


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows and items, and short answers."""
    monkeypatch.setattr(rule, "SIZES", dict.fromkeys(rule.SIZES, 80))
    monkeypatch.setattr(rule, "HELD_OUT", 12)
    full = Sums.protocols["full"]
    short = dataclasses.replace(full, n=8, decoding=Decoding(6), plain_decoding=Decoding(6))
    monkeypatch.setattr(Sums, "protocols", MappingProxyType({"full": short}))
    monkeypatch.setattr("tulu_eval.benchmarks.sums.SIZE", 8)
    training = Sums().training_items(None)
    monkeypatch.setattr(Sums, "training_items", lambda *_: training[:100])
    monkeypatch.setattr(whole, "PROBE_ITEMS", 4)


def invoke(folder: Path, *more: str) -> Any:
    from tulu_eval.cli import cli

    return CliRunner().invoke(cli, ["reproduce", "--recipe", "sums", "-o", str(folder), "--json", *more])


@pytest.mark.usefixtures("small")
def test_it_goes_on_where_it_was_stopped_and_comes_to_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = invoke(tmp_path / "whole")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found == json.loads((tmp_path / "whole" / whole.SUMMARY).read_text())
    assert found["held_out"]["before"]["kl"]["value"] == pytest.approx(0.0, abs=1e-6)
    assert [(one["after"], one["before"], one["paired"]["n"]) for one in found["gains"]] == [(*pair, 8) for pair in GAINS]
    assert set(found["held_out"]["reward_model"]) == set(rule.HELD_OUT_KINDS)
    assert [one["name"] for one in found["models"]] == list(MEASURED)
    assert {one["verdict"]["verdict"] for one in found["models"]} <= {"consistent", "inconsistent", "cannot tell"}
    page = (tmp_path / "whole" / "README.md").read_text()
    assert "| sums-rule over sums-ppo" in page
    assert "Training of sums-rule" in page
    trained = tmp_path / "whole" / "training"
    for name in ("sums-ppo", "sums-rule"):
        steps = metrics.read(trained / name / metrics.METRICS)
        points = found["curves"][name]
        assert points[-1]["step"] == len(steps)
        assert points[0]["score"] == pytest.approx(steps[0]["score"])

    # The report reads what the stages wrote about themselves.
    shown, problems = curves.find(trained)
    assert not problems
    assert [run["stage"] for run in shown] == ["sft", "ppo", "rm", "ppo", "sft"]
    assert {"score", "kl", "eos_rate", "explained_variance", "policy_gradient_norm"} <= set(shown[1]["curves"])
    assert "reward_rule:sums" in shown[3]["curves"]
    assert len(shown[3]["probe"]) == 2
    assert str(tmp_path) not in json.dumps(shown)

    # The exports load, and a card has the results of its own run.
    for name, auto in (("sums-rule", AutoModelForCausalLM), ("sums-rm", AutoModelForSequenceClassification)):
        auto.from_pretrained(tmp_path / "whole" / "models" / name)
        AutoTokenizer.from_pretrained(tmp_path / "whole" / "models" / name)
    card = (tmp_path / "whole" / "models" / "sums-ppo" / "README.md").read_text()
    assert found["models"][2]["results"][0]["signature"].replace("|", "\\|") in card

    # Stopped in act 1's PPO, and what follows from it gone: the stages that are left do not run again.
    cut = tmp_path / "cut"
    shutil.copytree(tmp_path / "whole", cut)
    for name in ("models/sums-ppo", "models/sums-rule", "training/sums-ppo/policy", "training/sums-rule", "results",
                 whole.HELD_OUT, whole.SUMMARY):  # fmt: skip
        path = cut / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    again_trained, right = [], launch.execute
    monkeypatch.setattr(
        launch, "execute", lambda job, *more: (again_trained.append(job.order.output.name), right(job, *more))[1]
    )
    again = invoke(cut)
    assert again.exit_code == 0, again.output
    assert again_trained == ["sums-ppo", "sums-rule"]
    for key in ("held_out", "gains"):
        assert json.loads(again.stdout)[key] == found[key]
    assert invoke(cut).exit_code == 0
    assert again_trained == ["sums-ppo", "sums-rule"]

    other = invoke(cut, "--seed", "1")
    assert other.exit_code == 2
    assert "has the stages of --seed 0" in other.stderr


def test_an_unknown_recipe(tmp_path: Path) -> None:
    from tulu_eval.cli import cli

    done = CliRunner().invoke(cli, ["reproduce", "--recipe", "huge", "-o", str(tmp_path)])
    assert done.exit_code == 2
    assert "sums" in done.stderr
