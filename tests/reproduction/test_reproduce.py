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

from tulu_eval.benchmarks.gsm_symbolic import GSMSymbolicZeroShot
from tulu_eval.records import Decoding
from tulu_eval.reports import curves
from tulu_eval.reproduction import reproduce as whole
from tulu_eval.reproduction import rule
from tulu_eval.training import launch, metrics


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows and items, and short answers."""
    monkeypatch.setattr(rule, "SIZES", {name: 80 if name in ("sft", "pairs", "prompts") else 12 for name in rule.SIZES})
    full = GSMSymbolicZeroShot.protocols["full"]
    short = dataclasses.replace(full, n=8, decoding=Decoding(6), plain_decoding=Decoding(6))
    monkeypatch.setattr(GSMSymbolicZeroShot, "protocols", MappingProxyType({"full": short}))
    monkeypatch.setattr(whole, "PROBE_ITEMS", 4)


def invoke(folder: Path) -> Any:
    from tulu_eval.cli import cli

    return CliRunner().invoke(cli, ["reproduce", "--recipe", "tiny", "-o", str(folder), "--json"])


@pytest.mark.usefixtures("small")
def test_it_goes_on_where_it_was_stopped_and_comes_to_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = invoke(tmp_path / "whole")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found == json.loads((tmp_path / "whole" / whole.SUMMARY).read_text())
    assert found["policies"]["tiny-sft"]["kl"]["value"] == pytest.approx(0.0, abs=1e-6)
    assert found["gain"]["n"] == 8
    assert set(found["reward_model"]) == set(rule.KINDS)
    assert all(type(one["n"]) is int for one in found["reward_model"].values())
    assert {one["verdict"] for one in found["verdicts"].values()} <= {"consistent", "inconsistent", "cannot tell"}
    page = (tmp_path / "whole" / "README.md").read_text()
    assert "| tiny-ppo | PPO" in page
    assert "Gain of PPO on the same 8 items" in page
    assert len(metrics.read(tmp_path / "whole" / "ppo" / metrics.PROBE)) == 2

    # The report reads what the stages wrote about themselves.
    trained, problems = curves.find(tmp_path / "whole")
    assert not problems
    assert [run["stage"] for run in trained] == ["ppo", "rm", "sft"]
    assert {"score", "kl", "eos_rate", "explained_variance", "policy_gradient_norm"} <= set(trained[0]["curves"])
    assert len(trained[0]["probe"]) == 2
    assert trained[0]["rollouts"]
    assert str(tmp_path) not in json.dumps(trained)

    # The exports load, and a card has the results of its own run.
    for name, auto in (("tiny-ppo", AutoModelForCausalLM), ("tiny-rm", AutoModelForSequenceClassification),
                       ("tiny-value", AutoModelForSequenceClassification)):  # fmt: skip
        auto.from_pretrained(tmp_path / "whole" / "models" / name)
        AutoTokenizer.from_pretrained(tmp_path / "whole" / "models" / name)
    card = (tmp_path / "whole" / "models" / "tiny-ppo" / "README.md").read_text()
    assert found["after"][0]["signature"].replace("|", "\\|") in card

    # Stopped after the reward model, in the middle of the next stage: the finished stages do not run again.
    cut = tmp_path / "cut"
    shutil.copytree(tmp_path / "whole", cut)
    for name in ("models/tiny-ppo", "models/tiny-value", "ppo/policy", "results", "held-out.json", whole.SUMMARY):
        path = cut / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    trained, right = [], launch.execute
    monkeypatch.setattr(launch, "execute", lambda job, *more: (trained.append(job.order.stage), right(job, *more))[1])
    again = invoke(cut)
    assert again.exit_code == 0, again.output
    assert trained == ["ppo"]
    for key in ("policies", "reward_model", "gain"):
        assert json.loads(again.stdout)[key] == found[key]
    assert invoke(cut).exit_code == 0
    assert trained == ["ppo"]


def test_an_unknown_recipe(tmp_path: Path) -> None:
    from tulu_eval.cli import cli

    done = CliRunner().invoke(cli, ["reproduce", "--recipe", "huge", "-o", str(tmp_path)])
    assert done.exit_code == 2
    assert "tiny" in done.stderr
