"""The plan of the recipe ``sums``: its figures are those of stored runs, and what is there is not done again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import tulu_eval
from tulu_eval.errors import UserError
from tulu_eval.files import parse_json
from tulu_eval.reproduction import plan_sums
from tulu_eval.reproduction.acts import TRAININGS
from tulu_eval.reproduction.planned import ReproductionPlan

RUNS = Path(__file__).resolve().parents[2] / "results" / "reproduce-sums"


def stored(seed: int) -> dict[str, Any]:
    return dict(parse_json((RUNS / f"seed-{seed}" / "reproduce.json").read_text(), RUNS))  # type: ignore[call-overload]


def test_figures_are_those_of_the_stored_runs(tmp_path: Path) -> None:
    seconds = [stored(seed)["seconds"] for seed in (1, 2)]
    found = {name: (min(one[name] for one in seconds), max(one[name] for one in seconds)) for name in seconds[0]}
    assert found == plan_sums.SECONDS
    plan = plan_sums.plan(0, tmp_path / "none")
    assert [stage.name for stage in plan.stages] == list(seconds[0])
    for stage in plan.stages:
        if stage.name in TRAININGS:
            trained = json.loads((RUNS / "seed-2" / "training" / f"{stage.name}.json").read_text())
            assert stage.steps is not None
            assert stage.steps.low == stage.steps.high == trained["steps"]
    assert plan.seconds.low == pytest.approx(sum(low for low, _ in found.values()))
    assert plan.disk.high == sum(plan_sums.DISK.values())
    assert {stage.state for stage in plan.stages} == {"to do"}
    assert not (tmp_path / "none").exists()


def test_what_is_there_is_not_done_again(tmp_path: Path) -> None:
    for made in ("data", "models/sums-random", "models/sums-sft"):
        (tmp_path / made).mkdir(parents=True)
    (tmp_path / "seed.json").write_text("0")
    plan = tulu_eval.plan_reproduction("sums", output=tmp_path)
    assert [stage.name for stage in plan.stages if stage.done] == ["data", "sums-sft"]
    low = sum(seconds for name, (seconds, _) in plan_sums.SECONDS.items() if name not in ("data", "sums-sft"))
    assert plan.seconds.low == pytest.approx(low)
    with pytest.raises(UserError, match="has the stages of --seed 0; give another --output"):
        plan_sums.plan(1, tmp_path)
    with pytest.raises(UserError, match="is a file; give another --output"):
        plan_sums.plan(0, tmp_path / "seed.json")


def test_it_is_printed(tmp_path: Path) -> None:
    from tulu_eval.cli import cli

    words = ["reproduce", "--recipe", "sums", "--dry-run", "-o", str(tmp_path / "none")]
    done = CliRunner(env={"COLUMNS": "80"}).invoke(cli, words)
    assert done.exit_code == 0, done.output
    assert max(map(len, done.stdout.replace(str(tmp_path), "").splitlines())) <= 80
    assert "What is left takes 3 to 4 min" in done.stdout
    assert "sums-rule, steps: 4 x 1,900 rows / 64" in done.stdout
    as_json = CliRunner().invoke(cli, [*words, "--json"])
    found = tulu_eval.files.decode(as_json.stdout.encode(), ReproductionPlan, Path("stdout"))
    assert found.stages == plan_sums.plan(0, tmp_path / "none").stages
