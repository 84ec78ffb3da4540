"""The plan of the card's checkpoint: its commands parse, as torchrun and as this program read them, and its figures add up."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import tulu_eval
from tulu_eval.cli import cli
from tulu_eval.errors import PreflightError, UserError
from tulu_eval.reproduction import plan_card
from tulu_eval.reproduction.planned import PlannedStage, ReproductionPlan
from tulu_eval.training import recipes


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ReproductionPlan:
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    return tulu_eval.plan_reproduction("card-8b", output=tmp_path / "a folder")


def parsed(words: list[str]) -> dict[str, Any]:
    """Returns the values of a verb's options; fails if the command line cannot be read."""
    above = cli.make_context("tulu-eval", list(words))
    verb = cli.get_command(above, words[0])
    assert verb is not None
    return verb.make_context(words[0], words[1:], parent=above).params


def torchrun(command: str) -> tuple[Any, list[str]]:
    """Returns what torchrun reads of a command, and the words of this program."""
    from torch.distributed.run import get_args_parser

    program, *words = shlex.split(command)
    assert program == "torchrun"
    found = get_args_parser().parse_args(words)
    assert (found.module, found.training_script) == (True, "tulu_eval")
    return found, found.training_script_args


def test_every_command_is_one(plan: ReproductionPlan) -> None:
    for stage in plan.stages[:-1]:
        (command,) = stage.commands
        launcher, words = torchrun(command)
        assert int(launcher.nproc_per_node) * int(launcher.nnodes.partition(":")[0]) == stage.devices
        assert launcher.max_restarts == 3
        values = parsed(words)
        changes = values.pop("changes")
        recipes.load(values["stage"], values["recipe"], changes)
        assert values["output"] == Path(plan.folder) / stage.name
        own = [values[name] for name in ("model", "reward_model") if values[name]]
        assert own == [name for name in stage.start if name in own]
    for command in plan.stages[-1].commands:
        program, *words = shlex.split(command)
        assert program == "tulu-eval"
        parsed(words)
    known = {model.hub_id for model in tulu_eval.load_suite().models}
    assert f"allenai/{plan_card.MODEL}" in known


def test_each_stage_starts_from_what_an_earlier_one_makes(plan: ReproductionPlan) -> None:
    sft, reward_model, ppo, evaluate = plan.stages
    assert ppo.start == (f"{plan.folder}/sft/policy", f"{plan.folder}/reward-model/reward_model")
    assert evaluate.start == (f"{plan.folder}/ppo/policy",)
    assert [stage.data for stage in (sft, reward_model, ppo)] == [
        "allenai/tulu-v2-sft-mixture, split train",
        "allenai/tulu-2.5-preference-data, split ultrafeedback_mean_aspects",
        "allenai/tulu-2.5-prompts, split ultrafeedback_prompts",
    ]


def test_figures(plan: ReproductionPlan) -> None:
    sft, reward_model, ppo, _ = plan.stages
    assert [stage.steps.low for stage in (sft, reward_model, ppo) if stage.steps] == [2 * (326_154 // 128), 118, 118]
    assert [stage.devices for stage in (sft, reward_model, ppo)] == [8, 16, 32]
    for stage in (sft, reward_model, ppo):
        assert next(one.devices for one in stage.memory if one.fits) == stage.devices
        assert stage.seconds
        assert 0 < stage.seconds.low < stage.seconds.high
    # 6 operations for each of 70 billion weights and each token of both sides.
    assert reward_model.seconds
    operations = 6 * 70.55e9 * 60_908 * 2 * 534
    assert reward_model.seconds.low == pytest.approx(operations / (0.5 * 16 * 743e12), rel=0.01)
    trained = 8_030_261_248 + 69_503_033_344
    assert ppo.disk
    assert ppo.disk.low == pytest.approx((2 * 12 + 2) * trained, rel=1e-3)


def test_it_takes_the_number_of_gpus_as_torchrun_sets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(world: str, local: str = "") -> tuple[PlannedStage, ...]:
        monkeypatch.setenv("WORLD_SIZE", world)
        monkeypatch.setenv("LOCAL_WORLD_SIZE", local)
        return plan_card.plan(plan_card.SEED, tmp_path).stages

    stages = made("64", "4")
    assert [len(stage.memory) for stage in stages] == [1, 1, 1, 0]
    assert "--nnodes 16 " in stages[0].commands[0]
    assert [bool(stage.commands) for stage in made("8")] == [True, False, False, True]  # no room for 70B
    with pytest.raises(PreflightError, match="batch = 128 cannot be shared evenly by 24 ranks"):
        made("24")
    with pytest.raises(UserError, match="12 GPUs are not whole nodes of 8"):
        made("12")
    with pytest.raises(UserError, match="must be numbers of GPUs"):
        made("many")


def test_what_is_trained_is_not_planned_again(plan: ReproductionPlan) -> None:
    (Path(plan.folder) / "sft" / "policy").mkdir(parents=True)
    again = plan_card.plan(1, Path(plan.folder))
    assert [stage.state for stage in again.stages] == ["done", "to do", "to do", "to do"]
    assert again.seconds.low < plan.seconds.low
    assert "--set seed=1" in again.stages[1].commands[0]


@pytest.mark.usefixtures("plan")
def test_it_is_printed_and_only_planned(tmp_path: Path) -> None:
    words = ["reproduce", "--recipe", "card-8b", "-o", str(tmp_path)]
    done = CliRunner(env={"COLUMNS": "80"}).invoke(cli, [*words, "--dry-run"])
    assert done.exit_code == 0, done.output
    for text in (
        "on each of 4 nodes:\n  torchrun --nnodes 4 ",
        "note: nobody has run this yet",
        "reward-model, disk: 69.50 billion",
    ):
        assert text in done.stdout
    refused = CliRunner().invoke(cli, words)
    assert refused.exit_code == 2
    assert refused.stderr == (
        "tulu-eval: card-8b takes 32 GPUs of 139 GiB, whose nodes start each stage themselves: "
        "'tulu-eval reproduce --recipe card-8b --dry-run' prints the commands for each\n"
    )
    assert not list(tmp_path.iterdir())
