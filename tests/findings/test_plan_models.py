"""A suite for many models: its GPU-hours by hand, the order of the verdicts, the room that models need, and bad input."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest

from tulu_eval.errors import UserError
from tulu_eval.findings import plan_models as module
from tulu_eval.findings.plan_models import plan_models
from tulu_eval.registry import load_suite

SUITE = load_suite()
PPO, SFT8, SFT13, DPO70 = "llama-3-tulu-v2.5-8b-uf-mean-70b-uf-rm", "llama-3-tulu-2-8b", "tulu-2-13b", "tulu-2-dpo-70b"


def test_a_column_by_hand() -> None:
    """200 prompts of 51,246 characters and 110 to 304 new tokens each, on one H200, for 8.0 of 8.03 billion parameters."""
    (model,) = plan_models("tulu-2.5", [SFT8], 1, SUITE).models
    (column,) = (one for one in model.columns if one.benchmark == "gsm8k")
    prefill = 51_246 / (2294 / 742) / 35_353
    assert column.samples == 200
    assert column.gpu_hours.usual == pytest.approx(8.0 / 8.03 * (prefill + 200 * 110 / 19_721) / 3600)
    assert column.gpu_hours.long == pytest.approx(8.0 / 8.03 * (prefill + 200 * 304 / 19_721) / 3600)
    assert (column.new_tokens.usual, column.new_tokens.long) == (22_000, 60_800)
    start = 112.3 / 3600
    assert model.gpu_hours.long == pytest.approx(start + sum(one.gpu_hours.long for one in model.columns))
    assert {one.benchmark: one.samples for one in model.columns}["humaneval"] == 164 * 20


def test_verdicts_are_of_published_numbers_that_need_no_judge() -> None:
    (model,) = plan_models("tulu-2.5", [SFT8], 1, SUITE).models
    assert [one.benchmark for one in model.columns if one.verdict] == ["mmlu", "gsm8k", "bbh", "tydiqa", "humaneval", "ifeval"]
    quick = plan_models("tulu-2.5-quick", [SFT8], 1, SUITE)
    assert {one.samples for one in quick.models[0].columns} == {200, 164 * 20}
    assert [one.benchmark for one in quick.models[0].columns if one.verdict] == ["gsm8k", "humaneval"]  # they have no more


def test_an_engine_has_as_many_gpus_as_its_weights_need() -> None:
    planned = plan_models("tulu-2.5", [DPO70, SFT13], 3, SUITE)
    assert {one.model: one.gpus for one in planned.models} == {DPO70: 2, SFT13: 1}
    large = next(one for one in planned.models if one.model == DPO70)
    assert large.command == f"tulu-eval run tulu-2.5 --model {DPO70} --backend vllm --tensor-parallel 2"
    assert (large.engines, large.first_gpu, planned.idle_gpus) == (1, 0, 1)


def test_a_model_gets_more_engines_where_the_whole_ends_earlier() -> None:
    """All of them start: 112.3 s of each of their GPUs are in the GPU-hours and the price."""
    alone = plan_models("tulu-2.5", [SFT13], 1, SUITE)
    planned = plan_models("tulu-2.5", [SFT13], 8, SUITE, 3.0)
    (model,) = planned.models
    assert (model.engines, model.gpus, planned.idle_gpus) == (8, 1, 0)
    assert model.command == f"tulu-eval run tulu-2.5 --model {SFT13} --backend vllm --data-parallel 8"
    assert model.gpu_hours.long == pytest.approx(alone.gpu_hours.long + 7 * 112.3 / 3600)
    assert planned.hours.long == pytest.approx(model.gpu_hours.long / 8)
    assert planned.price is not None
    assert planned.price.long == pytest.approx(3 * model.gpu_hours.long)
    assert (planned.gpu_hours_of_one, planned.hours_of_one) == (alone.gpu_hours, alone.hours)
    assert [one.hours for one in planned.milestones] < [one.hours for one in alone.milestones]


def test_engines_of_more_than_a_node_are_on_a_cluster() -> None:
    (model,) = plan_models("tulu-2.5", [DPO70], 64, SUITE).models
    assert (model.gpus, model.engines) == (2, 32)
    assert model.command.endswith("--tensor-parallel 2 --data-parallel 32 --cluster HOST:PORT")


def test_an_engine_over_several_nodes_is_the_only_one(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text('[[model]]\nhub_id = "me/huge"\nstage = "SFT"\nsize = "1000B"\nfamily = "Mine"\n')
    (model,) = plan_models("tulu-2.5", ["huge"], 64, load_suite(own)).models
    assert (model.gpus, model.engines) == (16, 1)


def test_most_verdicts_per_gpu_hour_come_first() -> None:
    models = [DPO70, SFT13, PPO, SFT8, "smollm2-135m-instruct"]
    planned = plan_models("tulu-2.5", models, 2, SUITE)
    assert planned.models[0].model == SFT8
    ratios = [one.verdicts / one.gpu_hours.long for one in planned.models]
    assert ratios == sorted(ratios, reverse=True)
    assert planned.models[-1].model == "smollm2-135m-instruct"
    assert [one.verdicts for one in planned.milestones] == [3, 5, 7, 9]
    assert all(one.hours < one.hours_as_given for one in planned.milestones)


def test_on_one_gpu_no_other_order_has_its_verdicts_earlier_on_average() -> None:
    models = [SFT13, PPO, SFT8, "tulu-2-7b"]
    jobs = [module._job(name, module.catalog.suite("tulu-2.5").members, 1, SUITE) for name in models]

    def mean_end(order: tuple[module._Job, ...]) -> float:
        ends = list(itertools.accumulate(job.gpu_hours.long for job in order))
        return sum(end * job.verdicts for end, job in zip(ends, order, strict=True))

    planned = plan_models("tulu-2.5", models, 1, SUITE)
    chosen = tuple(next(job for job in jobs if job.model == one.model) for one in planned.models)
    assert mean_end(chosen) == pytest.approx(min(map(mean_end, itertools.permutations(jobs))))


def test_sums_and_price() -> None:
    planned = plan_models("tulu-2.5", [DPO70, SFT13], 4, SUITE, 2.5)
    assert planned.gpu_hours.long == pytest.approx(sum(one.gpu_hours.long for one in planned.models))
    assert planned.price is not None
    assert (planned.price.usual, planned.price.long) == (2.5 * planned.gpu_hours.usual, 2.5 * planned.gpu_hours.long)
    assert planned.hours.long == max(one.end for one in planned.models)
    assert plan_models("tulu-2.5", [SFT13], 4, SUITE).price is None


def test_every_assumption_has_a_source() -> None:
    planned = plan_models("tulu-2.5", [SFT13], 1, SUITE)
    assert all(one.source and one.unit for one in planned.assumptions)
    used = {dataclasses.astuple(one)[1] for one in planned.assumptions}
    assert {35_353.0, 19_721.0, 112.3, 139.0, 110, 304} <= used


def test_a_folder_has_the_size_of_its_files(llama3_like: Path) -> None:
    (model,) = plan_models("tulu-2.5", [str(llama3_like)], 1, SUITE).models
    assert model.size_source == "its files"
    assert 0 < model.parameters < 1e6
    assert model.verdicts == 0


@pytest.mark.parametrize(
    ("suite", "models", "gpus", "said"),
    [
        ("tulu-2.6", [SFT13], 8, "unknown suite 'tulu-2.6'. Did you mean 'tulu-2.5'"),
        ("tulu-2.5", [], 8, "--models names no model; give one per line"),
        ("tulu-2.5", ["tulu-2-13bb"], 8, "unknown model 'tulu-2-13bb'. Did you mean 'tulu-2-13b'"),
        ("tulu-2.5", [SFT13, SFT13], 8, "--models names tulu-2-13b twice"),
        ("tulu-2.5", [SFT13, f"allenai/{SFT13}"], 8, "--models names allenai/tulu-2-13b twice, first as tulu-2-13b"),
        ("tulu-2.5", [SFT13, DPO70, SFT13] * 30_000, 8, "--models names tulu-2-13b twice"),  # at once
        ("tulu-2.5", ["nobody/knows-this"], 8, "nobody/knows-this"),
        ("tulu-2.5", ["./nowhere"], 8, "no such model file or folder: ./nowhere"),
        ("tulu-2.5", [DPO70], 1, "tulu-2-dpo-70b needs 2 GPUs for its 130 GiB of weights, and --gpus gives 1"),
        ("tulu-2.5", [SFT13], 0, "--gpus must be from 1 to 10,000, not 0"),
        ("tulu-2.5", [SFT13], 10**12, "--gpus must be from 1 to 10,000, not 1000000000000"),
        ("tulu-2.5", ["llama-3-tulu-2-8b-uf-mean-rm"], 8, "is a model of stage RM, which answers nothing"),
    ],
)
def test_bad_input_is_a_line(suite: str, models: list[str], gpus: int, said: str) -> None:
    with pytest.raises(UserError) as told:
        plan_models(suite, models, gpus, SUITE)
    assert said in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("price", [-1.0, 1e308, float("nan")])
def test_a_price_whose_sums_no_json_has(price: float) -> None:
    with pytest.raises(UserError, match="--gpu-hour-price must be from 0 to 1,000,000"):
        plan_models("tulu-2.5", [DPO70], 8, SUITE, price)


def test_two_revisions_of_a_model_are_two_models() -> None:
    assert len(plan_models("tulu-2.5", [SFT13, f"{SFT13}@step-100"], 8, SUITE).models) == 2


def test_a_size_that_is_no_number_is_a_line(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text('[[model]]\nhub_id = "me/mine"\nstage = "SFT"\nsize = "large"\nfamily = "Mine"\n')
    with pytest.raises(UserError, match="the size 'large' of mine is no number of parameters"):
        plan_models("tulu-2.5", ["mine"], 8, load_suite(own))
