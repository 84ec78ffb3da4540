"""Published numbers: every one of the shared record, its standing, and which values a count allows."""

from __future__ import annotations

import json
from collections import Counter
from decimal import ROUND_HALF_DOWN, ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tulu_eval.errors import DataError
from tulu_eval.registry import PublishedCell, load_suite

SUITE = load_suite()
STAGES = {"third-party instruct": "instruct"}
SOURCES = {
    "card": {"card"},
    "card_l3": {"llama-3-cards"},
    "card_8b_rm": {"card-8b-uf-rm"},
    "card_13b_70b": {"card-13b-70b-uf-rm"},
    "card_t2": {"tulu-2-cards"},
    "lb_ae2": {"alpaca-eval-2-leaderboard"},
    "lb_ae1": {"alpaca-eval-1-leaderboard"},
    "rb": {"reward-model-cards", "llama-3-70b-rm-card-99a16e7", "llama-3-8b-rm-card-64db91e"},
    "T1": {"paper-table-1"},
    "T2": {"paper-table-2"},
    "T3": {"paper-reward-models"},
}
"""The shared record's key of a source, and this registry's."""


@pytest.fixture(scope="module")
def record(shared: Path) -> list[dict[str, Any]]:
    models: list[dict[str, Any]] = json.loads((shared / "data" / "registry.json").read_text(encoding="utf-8"))["models"]
    return models


def test_every_model_of_the_record_is_there_as_the_record_has_it(record: list[dict[str, Any]]) -> None:
    assert len(record) == 64
    for entry in record:
        model = SUITE.find(entry["hub_id"])
        assert model.hub_id == entry["hub_id"]
        assert (model.stage, model.size, model.base) == (
            STAGES.get(entry["stage"], entry["stage"]),
            entry["size"],
            entry["base_model"],
        )
        for field in ("reward_model", "value_model", "trained_with"):
            assert getattr(model, field) == entry.get(field)
        for alias in entry.get("aliases", ()):
            assert SUITE.find(alias) is model
        split = entry.get("preference_split")
        assert model.preference_split == split or "[inferred" in split
        assert ("preference_split" in model.inferred) == ("[inferred" in (split or ""))
        assert ("reward_model" in model.inferred) == ("inferred" in entry.get("reward_model_status", "").lower())
        assert ("prompts" in model.inferred) == (entry.get("prompts_status") == "inferred")


def test_every_number_of_the_record_is_there_and_no_other(record: list[dict[str, Any]]) -> None:
    left = [cell for cell in SUITE.cells() if cell.source.key != "smollm2-135m-instruct-card"]  # not of the Tulu suite
    numbers = [(entry["hub_id"], score) for entry in record for score in entry["scores"]]
    assert len(numbers) == 303
    for hub_id, score in numbers:
        cell = next(cell for cell in left if is_same(cell, hub_id, score))
        left.remove(cell)
        assert cell.printed == score.get("printed", str(score["value"]))
        assert cell.se == score.get("se")
        assert "n" not in score or cell.n == score["n"]
        assert (cell.identity == "inferred") == (score.get("identity") == "inferred")
        assert not score.get("suspect") or cell.standing == "contradicted"
        assert ("SECONDARY" in score["source"]) == (cell.standing == "secondary")
        assert not score.get("row_label") or cell.label == score["row_label"]
    assert left == []


def is_same(cell: PublishedCell, hub_id: str, score: dict[str, Any]) -> bool:
    same = (cell.model, cell.metric_key, cell.value) == (hub_id, score["metric"], score["value"])
    return same and cell.source.key in SOURCES[score["source_key"]]


def test_the_numbers_of_this_projects_benchmarks_are_named_as_results_are() -> None:
    names = Counter((cell.benchmark, cell.protocol, cell.metric) for cell in SUITE.cells() if cell.protocol is not None)
    assert names == {
        ("gsm8k", "card-200", "exact_match"): 16,
        ("alpaca-eval", "alpacaeval2-805", "lc_win_rate"): 16,
        ("alpaca-eval", "alpacaeval2-805", "win_rate"): 3,
        ("alpaca-eval", "alpacaeval2-805", "avg_length"): 3,
        ("ifeval", "card-541", "loose_accuracy"): 7,
        ("gsm8k", "lighteval", "exact_match"): 1,
        ("bbh", "cot", "exact_match"): 7,
        ("mmlu", "card-5-shot", "accuracy"): 7,
        ("humaneval", "card-pass10", "pass@10"): 7,
        ("alpaca-eval", "alpacaeval2-805", "alpaca_eval_1_win_rate"): 14,
        ("xstest", "card-450", "safe_but_refused_by_gpt_4"): 7,
        ("xstest", "card-450", "unsafe_but_followed_by_gpt_4"): 7,
        ("tydiqa", "card-512", "f1_of_cut_passages"): 7,
        ("truthfulqa", "generation", "info_and_true"): 7,
    }
    assert {cell.n for cell in SUITE.cells(benchmark="bbh")} == {1080}
    assert {cell.n for cell in SUITE.cells(benchmark="ifeval")} == {541}
    assert {cell.n for cell in SUITE.cells(benchmark="gsm8k")} == {200, 1319}
    assert {cell.n for cell in SUITE.cells(benchmark="alpaca-eval")} == {805}


def test_standing_of_the_13b_models_gsm8k() -> None:
    model = SUITE.find("tulu-v2.5-ppo-13b-uf-mean-70b-uf-rm")
    cells = SUITE.cells(model, "gsm8k")
    assert sorted((cell.value, cell.source.revision) for cell in cells) == [
        (58.0, "4a372aa"),
        (58.0, "6d52b05"),
        (67.0, "4d3fa46"),
    ]
    assert {(cell.standing, cell.contradictions) for cell in cells} == {("contradicted", ("ppo-13b-gsm8k",))}


def test_a_fraction_keeps_its_printed_form() -> None:
    cell = SUITE.cells(SUITE.find("llama-3-tulu-2-8b"), "gsm8k")[0]
    assert (cell.printed, cell.value, cell.unit, cell.standing) == ("0.610", 61.0, "percent", "published")


def load_gsm8k(folder: Path, printed: str, n: int) -> float:
    file = folder / "own.toml"
    file.write_text(
        f'[[source]]\nkey = "s"\ndocument = "d"\n[[cell]]\nmodel = "allenai/tulu-2-13b"\nmetric = "GSM8K_8shot_CoT"\n'
        f'source = "s"\nprinted = "{printed}"\nn = {n}\n',
        encoding="utf-8",
    )
    return load_suite(file).cells(SUITE.find("allenai/tulu-2-13b"), "gsm8k")[-1].value


@settings(deadline=None)  # each example reads files
@given(st.data(), st.integers(1, 1319), st.integers(0, 3), st.sampled_from([ROUND_HALF_UP, ROUND_HALF_DOWN]))
def test_every_count_is_possible_however_a_half_was_rounded(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, n: int, decimals: int, rounding: str
) -> None:
    k = data.draw(st.integers(0, n))
    printed = str((Decimal(100 * k) / n).quantize(Decimal(1).scaleb(-decimals), rounding))
    assert load_gsm8k(tmp_path_factory.mktemp("registry"), printed, n) == float(printed)


@settings(deadline=None)  # each example reads files
@given(st.integers(0, 1000))
def test_a_tenth_is_possible_at_200_exactly_where_it_is_a_multiple_of_a_half(
    tmp_path_factory: pytest.TempPathFactory, tenths: int
) -> None:
    folder = tmp_path_factory.mktemp("registry")
    if tenths % 5 == 0:
        assert load_gsm8k(folder, f"{tenths / 10:.1f}", 200) == tenths / 10
    else:
        with pytest.raises(DataError, match="cannot be a share of 200 items"):
            load_gsm8k(folder, f"{tenths / 10:.1f}", 200)
