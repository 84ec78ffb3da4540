"""The number of items that a comparison needs, the differences that protocols detect, and the cost of the runs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from tulu_eval.benchmarks.gsm8k import GSM8K
from tulu_eval.benchmarks.gsm8k_data import TEST_SIZE
from tulu_eval.errors import DataError, PreflightError, UnknownName, UserError
from tulu_eval.findings import plan
from tulu_eval.findings.plan import parameters_of, plan_comparison
from tulu_eval.registry import load_suite
from tulu_eval.reports import plan as report
from tulu_eval.runs.estimate import Work, cost
from tulu_eval.runs.rates import Rates

SUITE = load_suite()
DPO, SFT, PPO = "tulu-v2.5-dpo-13b-uf-mean", "tulu-2-13b", "llama-3-tulu-v2.5-8b-uf-mean-70b-uf-rm"


@pytest.fixture(autouse=True)
def _nothing_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """No hub, and a machine of known speed."""
    monkeypatch.setattr("huggingface_hub.constants.is_offline_mode", lambda: True)
    monkeypatch.setattr("tulu_eval.hub.dataset_file", _unreachable)
    monkeypatch.setattr(plan, "machine_rates", lambda device, dtype, done: Rates(flops=1e12, bytes=1e10))


def _unreachable(*_: object) -> Path:
    raise PreflightError("the hub is unreachable")


@pytest.fixture
def questions(shared: Path) -> Path:
    return shared / "data" / "gsm8k" / "test.jsonl"


def test_the_published_gap_of_dpo_and_sft() -> None:
    """50.5 against 46.0: the exact tests need 810 to 1200 paired items at 20 to 30 % discordance, and 1976 unpaired.

    The formulas for a chi-square and a z-test give 773 to 1160 and 1932.
    """
    found = plan_comparison("gsm8k", (DPO, SFT), 4.5, SUITE)
    assert found.paired == (810, 1200)
    assert found.unpaired == 1976
    assert found.centre == pytest.approx(48.25)
    assert {reach.protocol: (reach.n, reach.enough) for reach in found.reaches} == {
        "card-200": (200, "no"),
        "full": (1319, "yes"),
    }
    assert {cost.protocol for cost in found.costs} == {"full"}


def test_two_points_are_more_than_gsm8k_has() -> None:
    found = plan_comparison("gsm8k", (DPO, PPO), 2.0, SUITE)
    assert found.paired == (4016, 5980)
    assert found.unpaired == 9941
    assert [reach.enough for reach in found.reaches] == ["no", "no"]
    assert [cost.items for cost in found.costs] == [TEST_SIZE, TEST_SIZE]


def test_a_large_difference_takes_the_small_protocol_and_the_discordance_it_needs() -> None:
    found = plan_comparison("gsm8k", (DPO, SFT), 40.0, SUITE)
    assert found.discordance == (0.40, 0.40)
    assert found.paired[0] == found.paired[1]
    assert {cost.protocol for cost in found.costs} == {"card-200"}


@pytest.mark.parametrize("detect", [0.5, 1.0, 3.0, 10.0, 100.0])
def test_what_a_protocol_reaches_and_what_is_needed_are_the_same_statement(detect: float) -> None:
    found = plan_comparison("gsm8k", (DPO, SFT), detect, SUITE)
    for reach in found.reaches:
        assert reach.paired_low is not None
        assert reach.paired_high is not None
        tolerance = 0.01 * detect  # power can reach 80 % a few items before it stays there
        assert reach.paired_high <= detect or reach.enough != "yes"
        assert reach.paired_low >= detect - tolerance or reach.enough != "no"


@pytest.mark.parametrize(
    ("detect", "paired", "unpaired"), [(10.0, (168, 249), 416), (50.0, (15, 15), 18), (90.0, (7, 7), 5), (100.0, (6, 6), 4)]
)
def test_items_of_large_differences(detect: float, paired: tuple[int, int], unpaired: int) -> None:
    """No difference takes no items; the largest takes as many as make a p-value below 0.05 possible."""
    found = plan_comparison("gsm8k", (DPO, SFT), detect, SUITE)
    assert (found.paired, found.unpaired) == (paired, unpaired)


def test_a_protocol_too_small_for_any_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GSM8K, "protocols", {"tiny": dataclasses.replace(GSM8K.protocols["custom"], name="tiny", n=3)})
    found = plan_comparison("gsm8k", (DPO, SFT), 40.0, SUITE)
    reach = found.reaches[0]
    assert (reach.paired_low, reach.paired_high, reach.unpaired, reach.enough) == (None, None, None, "no")
    assert ["tiny", "3", "none", "none", "no"] in [line.split() for line in report.as_text(found).splitlines()]


def test_a_model_that_is_not_here_is_taken_by_its_size() -> None:
    cost = plan_comparison("gsm8k", (SFT, PPO), 5.0, SUITE).costs[1]
    assert (cost.parameters, cost.memory_bytes) == (8_000_000_000, 16_000_000_000)
    assert (cost.prompt_tokens, cost.seconds) == (None, None)
    assert "8 billion parameters by its size 8B, in bfloat16" in cost.assumed[0]
    assert "--data FILE" in cost.assumed[1]


def test_tokens_are_counted_in_the_questions_where_they_are_here(questions: Path) -> None:
    cost = plan_comparison("gsm8k", (SFT, PPO), 5.0, SUITE, questions).costs[0]
    # 1319 prompts of 742 tokens of exemplars and about 100 of the question (peers' facts: 0.98 M and 0.12 M).
    assert cost.prompt_tokens == pytest.approx(1.1e6, rel=0.05)
    assert cost.seconds is not None
    assert cost.seconds[0] < cost.seconds[1]
    assert cost.new_tokens == (110 * TEST_SIZE, 512 * TEST_SIZE)


def test_a_model_that_is_here_is_planned_as_a_run_would_be(
    llama3_like: Path, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = dataclasses.replace(GSM8K.protocols["custom"], n=12)
    monkeypatch.setattr(GSM8K, "protocols", {"custom": small})
    here, away = plan_comparison("gsm8k", (str(llama3_like), SFT), 20.0, SUITE, rows).costs
    assert here.assumed == ()
    assert here.parameters == 32 * 600 * 2 + 2 * (32 * 32 * 2 + 32 * 16 * 2 + 3 * 32 * 64 + 2 * 32) + 32
    assert here.prompt_tokens is not None
    assert here.prompt_tokens > 12 * 300
    assert len(away.assumed) == 2


def test_the_cost_of_known_work_at_known_rates() -> None:
    work = Work(
        parameters=10**9, dtype="bfloat16", items=128, prompt_tokens=128 * 800, shared_tokens=700, max_new_tokens=512,
        max_length=1312, kv_bytes=1000,
    )  # fmt: skip
    found = cost(work, Rates(flops=1e12, bytes=1e10))
    prefill = 700 + 128 * 100
    low = 2e9 * (prefill + 128 * 110) / 1e12 + 110 * 2 * 2e9 / 1e10
    high = 2e9 * (prefill + 128 * 512) / 1e12 + 512 * 2 * 2e9 / 1e10
    assert found.seconds_low == pytest.approx(low / 0.5)
    assert found.seconds_high == pytest.approx(high / 0.1)
    assert found.memory_bytes == 2 * 10**9 + 1000 * (700 + 64 * 612)


@pytest.mark.parametrize(("size", "parameters"), [("8B", 8e9), ("135M", 135e6), ("1.7b", 1.7e9), ("70B", 70e9)])
def test_sizes_are_read(size: str, parameters: float) -> None:
    assert parameters_of(dataclasses.replace(SUITE.find(SFT), size=size)) == parameters


def test_every_size_of_the_suite_can_be_read() -> None:
    assert all(parameters_of(model) > 1e8 for model in SUITE.models)


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (("gsm9k", (DPO, SFT), 2.0), UnknownName, "unknown benchmark 'gsm9k'. Did you mean 'gsm8k'"),
        (("gsm8k", (DPO, "tulu-2-13bb"), 2.0), UnknownName, "unknown model 'tulu-2-13bb'"),
        (("gsm8k", (DPO, SFT), 0.0), UserError, "above 0 and at most 100, not 0"),
        (("gsm8k", (DPO, SFT), 101.0), UserError, "above 0 and at most 100, not 101"),
        (("gsm8k", (DPO, SFT), -3.0), UserError, "above 0 and at most 100, not -3"),
        (("gsm8k", (DPO, SFT), float("nan")), UserError, "not nan"),
        (("gsm8k", (DPO, SFT), float("inf")), UserError, "not inf"),
        (("gsm8k", (DPO, SFT), 5e-324), UserError, "--detect 5e-324 takes millions of items"),
        (("gsm8k", (DPO, SFT), 0.099), UserError, r"give 0\.1 points or more"),
        (("gsm8k", (DPO, "./no-such-folder"), 2.0), PreflightError, "no such model file or folder"),
        (("gsm8k", (DPO, "someone/else"), 2.0), PreflightError, "someone/else is not in the local cache"),
    ],
)
def test_bad_orders(words: tuple[str, tuple[str, str], float], error: type[UserError], message: str) -> None:
    with pytest.raises(error, match=message):
        plan_comparison(*words, SUITE)


def test_a_bad_data_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps({"prompt": "q"}))
    with pytest.raises(DataError, match=r"bad\.jsonl:1"):
        plan_comparison("gsm8k", (DPO, SFT), 2.0, SUITE, path)


def test_a_size_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"the size '8x7B' of tulu-2-13b is no number of parameters, e\.g\. 8B"):
        parameters_of(dataclasses.replace(SUITE.find(SFT), size="8x7B"))


def test_a_benchmark_without_a_fixed_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GSM8K, "protocols", {"custom": GSM8K.protocols["custom"]})
    with pytest.raises(UserError, match="gsm8k has no protocol with a fixed number of items"):
        plan_comparison("gsm8k", (DPO, SFT), 2.0, SUITE)


def test_without_published_numbers_the_worst_case_is_taken() -> None:
    found = plan_comparison("gsm-symbolic", (DPO, SFT), 5.0, SUITE)
    assert (found.centre, found.unpaired) == (50.0, plan.unpaired_items(0.475, 0.525))
    assert found.centre_source.startswith("no published number")


@pytest.mark.parametrize(("benchmark", "centre"), [("bbh", 58.8), ("xstest", 50.0)])
def test_the_centre_is_of_the_numbers_that_are_paired(benchmark: str, centre: float) -> None:
    """The cells of XSTest are other shares than that of right labels; BBH's are 59.2 and 58.4. Neither's data are here."""
    found = plan_comparison(benchmark, ("llama-3-tulu-2-8b", "llama-3-tulu-2-dpo-8b"), 5.0, SUITE)
    assert found.centre == pytest.approx(centre)
    assert all(one.prompt_tokens is None for one in found.costs)
