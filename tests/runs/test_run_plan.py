"""The plan: known before anything is loaded, and different whenever anything that can change a completion differs."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulu_eval import plugins
from tulu_eval.backends.base import EngineSettings
from tulu_eval.backends.hf.backend import TransformersBackend
from tulu_eval.errors import PreflightError
from tulu_eval.records import Decoding
from tulu_eval.registry import load_suite
from tulu_eval.runs import catalog
from tulu_eval.runs.estimate import common_prefix, estimate
from tulu_eval.runs.order import Order
from tulu_eval.runs.run_plan import make_plan
from tulu_eval.store.identity import safe_name
from tulu_eval.testing import ScriptedBackend


def test_a_plan_names_items_prompts_and_folder(order: Order, llama3_like: Path) -> None:
    plan = make_plan(order, load_suite())
    assert [one.item.id for one in plan.planned] == [f"row-{number}" for number in range(12)]
    first = plan.planned[0]
    assert first.prompt_sha256 == hashlib.sha256(first.request.text.encode()).hexdigest()
    assert first.request.text.startswith("<|user|>\nAnswer the following questions.\n\n")
    assert first.request.token_ids[0] == 0
    assert plan.eos_ids == (1,)
    assert plan.decoding == Decoding(max_new_tokens=512)
    assert plan.folder.parent == order.output / f"{llama3_like.parent.name}__{llama3_like.name}" / "gsm8k"
    assert plan.max_length == min(plan.longest_prompt + 512, 2048)
    assert not order.output.exists()


def keys(order: Order) -> set[str]:
    return {one.request.key for one in make_plan(order, load_suite()).planned}


def test_keys_depend_on_every_setting_that_can_change_a_completion(order: Order, llama2_like: Path, tmp_path: Path) -> None:
    base = keys(order)
    assert len(base) == 12
    assert keys(dataclasses.replace(order, seed=7)) == base, "greedy: the seed changes nothing"
    assert keys(dataclasses.replace(order, limit=3)) < base
    assert keys(dataclasses.replace(order, settings=dataclasses.replace(order.settings, batch_size=1))) == base
    vllm = dataclasses.replace(order, backend="vllm")
    for one, changed in (
        (order, dataclasses.replace(order, model=str(llama2_like))),
        (order, dataclasses.replace(order, settings=EngineSettings(dtype="bfloat16"))),
        (order, vllm),
        (vllm, dataclasses.replace(vllm, settings=dataclasses.replace(order.settings, quantization="fp8"))),
        (vllm, dataclasses.replace(vllm, settings=dataclasses.replace(order.settings, adapter=str(tmp_path)))),
    ):
        assert not keys(changed) & keys(one)


def test_a_backend_made_elsewhere_may_have_any_setting() -> None:
    settings = EngineSettings(tensor_parallel=2)
    ScriptedBackend.check_settings(settings)
    with pytest.raises(PreflightError, match=r"^--tensor-parallel is no setting of --backend transformers$"):
        TransformersBackend.check_settings(settings)


def test_protocols_of_one_benchmark_share_their_samples(order: Order, shared: Path, tmp_path: Path) -> None:
    """Published first, then full: nothing is generated twice, wherever the same rows are read from."""
    data = shared / "data/gsm8k/test.jsonl"
    spaced = tmp_path / "spaced.jsonl"
    spaced.write_text(data.read_text() + "\n")
    orders = [
        dataclasses.replace(order, protocol=name, data=path)
        for name, path in (("published", data), ("full", data), ("full", spaced))
    ]
    plans = [make_plan(one, load_suite()) for one in orders]
    assert len({plan.settings_sha256 for plan in plans}) == 1
    assert len({plan.folder for plan in plans}) == 2
    assert plans[1].planned[:200] == plans[0].planned


def test_estimate_is_a_range_with_the_shared_prefix_found(order: Order) -> None:
    plan = make_plan(order, load_suite())
    guess = estimate(plan)
    prompts = [one.request.token_ids for one in plan.planned]
    assert all(ids[: guess.shared_tokens] == prompts[0][: guess.shared_tokens] for ids in prompts)
    assert 0 < guess.seconds_low < guess.seconds_high
    assert guess.memory_bytes > plan.model.parameters * 4


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6).map(tuple), min_size=1, max_size=5))
def test_common_prefix_is_the_longest_that_all_share(prompts: list[tuple[int, ...]]) -> None:
    length = common_prefix(prompts)
    assert len({ids[:length] for ids in prompts}) == 1
    longer = {ids[: length + 1] for ids in prompts}
    assert len(longer) > 1 or min(map(len, prompts)) == length


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("allenai/tulu-2-7b", "allenai__tulu-2-7b"),
        ("../../etc", "__..__etc"),
        (".hidden", "hidden"),
        ("a b:c", "a-b-c"),
        ("..", "model"),
    ],
)
def test_folder_names_stay_in_their_folder(name: str, folder: str) -> None:
    assert safe_name(name) == folder
    assert "/" not in safe_name(name)


def test_every_declared_benchmark_and_backend_can_be_had() -> None:
    assert {"gsm8k", "gsm-symbolic", "alpaca-eval"} <= set(plugins.names(plugins.BENCHMARKS))
    for name in plugins.names(plugins.BENCHMARKS):
        benchmark = catalog.benchmark(name)
        assert benchmark.name == name
        for protocol in benchmark.protocols.values():
            assert set(protocol.covers) <= set(benchmark.protocols)
    for name in plugins.names(plugins.BACKENDS):
        assert catalog.backend(name).name == name
