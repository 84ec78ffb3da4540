"""What is made for a model's card: read back by the hub's own library, whole rows only, published numbers marked as such."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard, metadata_eval_result, parse_eval_result_entries
from huggingface_hub.repocard_data import model_index_to_eval_results

from tulu_eval.errors import UserError
from tulu_eval.exchange.import_file import import_file
from tulu_eval.model_card import check
from tulu_eval.model_card import make as report
from tulu_eval.model_card.card_file import read_card
from tulu_eval.registry import load_suite
from tulu_eval.reports import report as page_report

MakeRun = Callable[..., Path]
SUITE = load_suite()
PPO = "allenai/tulu-v2.5-ppo-13b-uf-mean-70b-uf-rm"


def made(tmp_path: Path, name: str = PPO, published: bool = False) -> report.CardContent:
    return report.make(name, SUITE, tmp_path / "results", published)


def test_the_metadata_is_what_the_hubs_library_makes_and_reads(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(right=121)
    card = made(tmp_path)
    index = yaml.safe_load(report.metadata(card))["model-index"]
    name, results = model_index_to_eval_results(index)
    assert name == PPO
    assert [(one.metric_type, one.metric_value, one.metric_args["n"]) for one in results] == [("exact_match", 60.5, 200)] * 2
    assert results[0].metric_args["interval"] == [53.59, 67.02]
    assert results[0].metric_args["signature"].startswith("gsm8k:card-200|n:200@67fd6fed|")
    plain = metadata_eval_result(
        model_pretty_name=PPO, task_pretty_name="Text Generation", task_id="text-generation",
        metrics_pretty_name="exact match, protocol card-200, scorer last-number, n = 200", metrics_id="exact_match",
        metrics_value=60.5, dataset_pretty_name="GSM8K", dataset_id="openai/gsm8k", dataset_config="main", dataset_split="test",
    )["model-index"]  # fmt: skip
    (here,), (theirs,) = index[0]["results"], plain[0]["results"]
    assert {key: here[key] for key in ("task", "dataset")} == {key: theirs[key] for key in ("task", "dataset")}
    assert {k: v for k, v in here["metrics"][0].items() if k != "args"} | {"verified": False} == theirs["metrics"][0]


def test_it_is_a_card_that_the_hub_reads_and_the_check_passes(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(right=121)
    card = made(tmp_path, published=True)
    path = tmp_path / "README.md"
    path.write_text(f"---\n{report.metadata(card)}---\n{report.section(card, SUITE)}")
    loaded = ModelCard.load(path)
    assert loaded.data.eval_results == report.eval_results(card)
    file = read_card(path)
    model = check.model_of(file, SUITE)
    assert model is not None
    assert model.hub_id == PPO
    assert check.check(file, SUITE, model) == ()


def test_published_numbers_only_on_request_and_marked(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(right=121)
    assert "published: true" not in report.metadata(made(tmp_path))
    card = made(tmp_path, published=True)
    results = [one for one in report.eval_results(card) if one.metric_args.get("published")]
    assert {(one.dataset_type, one.metric_value) for one in results} == {
        ("openai/gsm8k", 67.0), ("openai/gsm8k", 58.0), ("tatsu-lab/alpaca_eval", 26.7),
    }  # fmt: skip
    assert all(one.metric_name.endswith(", as published, not measured") and one.metric_args["source"] for one in results)
    section = report.section(card, SUITE)
    assert "Published elsewhere and not measured here:" in section
    assert "| GSM8K | exact match | 67.0 | 200 | model card of allenai/llama-3-tulu-v2.5" in section
    assert "- The record contradicts itself (ppo-13b-gsm8k): " in section
    entries = parse_eval_result_entries(yaml.safe_load(report.hub_files(card)[".eval_results/gsm8k.yaml"]))
    assert [entry.value for entry in entries] == [60.5]


def test_the_section_has_n_interval_verdict_counts_and_signature(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(right=121)
    section = report.section(made(tmp_path), SUITE)
    assert (
        "| GSM8K | card-200 | exact match | last-number | 60.5 | [53.6, 67.0] | 200 | inconsistent with 67.0 (card); "
        "consistent with 58.0 (card-13b-70b-uf-rm); consistent with 58.0 (card-8b-uf-rm) |\n"
    ) in section
    assert "\n- 200 ok: `gsm8k:card-200|n:200@67fd6fed|p:" in section


def test_the_hubs_file_has_the_row_with_most_items(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(right=121)
    make_run(right=700, protocol="full")  # takes the 200 of the other run over, 79 of them wrong
    (entry,) = parse_eval_result_entries(yaml.safe_load(report.hub_files(made(tmp_path))[".eval_results/gsm8k.yaml"]))
    assert (entry.dataset_id, entry.task_id, entry.value) == ("openai/gsm8k", "gsm8k", 47.08)
    assert entry.notes.startswith(
        "exact match, protocol full, scorer last-number, n = 1319, percent, 95 % interval [44.4, 49.8], "
    )


def test_a_benchmark_of_another_package_stands_under_its_own_name(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(right=121)
    card = made(tmp_path)
    entries = tuple(
        dataclasses.replace(one, row=dataclasses.replace(one.row, benchmark="their-benchmark")) for one in card.entries
    )
    theirs = dataclasses.replace(card, entries=entries)
    assert [(one.dataset_type, one.dataset_config) for one in report.eval_results(theirs)] == 2 * [("their-benchmark", None)]
    assert "type: their-benchmark\n" in report.metadata(theirs)
    assert "| their-benchmark | card-200 |" in report.section(theirs, SUITE)


def test_published_numbers_of_every_column_and_alpaca_eval_1_by_its_own_name(tmp_path: Path) -> None:
    card = report.make("llama-3-tulu-2-dpo-8b", SUITE, tmp_path / "results", published=True)
    named = {(one.dataset_name, one.dataset_config, one.metric_value) for one in report.eval_results(card)}
    assert {name for name, _, _ in named} == {
        "AlpacaEval 1", "AlpacaEval 2", "BIG-Bench Hard", "GSM8K", "HumanEval", "IFEval", "MMLU", "TruthfulQA",
        "TyDi QA, gold passage", "XSTest",
    }  # fmt: skip
    assert {config for name, config, _ in named if name == "AlpacaEval 1"} == {"alpaca_eval"}
    loaded = yaml.safe_load(report.metadata(card))
    assert len(loaded["model-index"][0]["results"]) == len(
        {(one.dataset_type, one.dataset_config) for one in report.eval_results(card)}
    )
    assert "| AlpacaEval 1 | alpaca eval 1 win rate | 93.02 |" in report.section(card, SUITE)


def test_the_newest_of_equal_runs(make_run: MakeRun, tmp_path: Path) -> None:
    for right, output, ended in ((100, "results/a", "2025-01-02"), (90, "results/b", "2025-01-01")):
        path = make_run(right=right, output=output) / "manifest.json"
        manifest = json.loads(path.read_text())
        manifest["sessions"][-1]["finished"] = f"{ended}T00:00:00+00:00"
        path.write_text(json.dumps(manifest))
    assert [entry.row.value for entry in made(tmp_path).entries if entry.row.scorer == "last-number"] == [50.0]


def test_rows_that_are_not_whole_are_left_out_and_named(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(right=5, limit=12)
    with pytest.raises(UserError, match=r"no whole run of .* is under .*\. Left out, first of 2: .*: 12 of 200 items\."):
        made(tmp_path)
    make_run(right=121, failed=3, output="results/failed")
    with pytest.raises(UserError, match="first of 4"):
        made(tmp_path)
    make_run(right=121, output="results/whole")
    card = made(tmp_path)
    assert len(card.entries) == 2
    assert any("card-200, last-number: the engine or judge failed on 3 of 200 items" in line for line in card.left_out)


def test_a_run_changed_by_hand_is_left_out_and_named(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(right=121)
    other = make_run(right=121, output="results/other") / "samples.jsonl"
    other.write_bytes(other.read_bytes().replace(b"answer is 1.", b"answer is 2.", 1))
    card = made(tmp_path)
    assert len(card.entries) == 2
    assert "1 lines are corrupt or changed by hand (first: 1)" in card.left_out[0]


def test_the_only_run_changed_by_hand_is_named(make_run: MakeRun, tmp_path: Path) -> None:
    ledger = make_run(right=121) / "samples.jsonl"
    ledger.write_bytes(ledger.read_bytes().replace(b"answer is 1.", b"answer is 2.", 1))
    with pytest.raises(UserError, match=r"first of 1: cannot be used: .*samples\.jsonl: 1 lines are corrupt"):
        made(tmp_path)


def test_a_run_made_consistent_by_hand_is_left_out_and_named(make_run: MakeRun, tmp_path: Path) -> None:
    path = make_run(right=121, model="my/forged", revision="sha256:1") / "manifest.json"
    path.write_text(path.read_text().replace('"my/forged"', '"allenai/tulu-2-13b"'))
    with pytest.raises(UserError, match=r"is not as it was made; .*: manifest\.json: model, .* \(settings_sha256 differs\)"):
        made(tmp_path, "tulu-2-13b")


def test_an_imported_run_is_marked_as_such(shared: Path, tmp_path: Path) -> None:
    from tulu_eval.benchmarks.gsm8k import published_indices

    data = shared / "data/gsm8k/test.jsonl"
    lines = data.read_text(encoding="utf-8").splitlines()
    rows: list[dict[str, Any]] = []
    for place in published_indices():
        raw = json.loads(lines[place])
        rows.append({"question": raw["question"], "answer": raw["answer"], "model_output": " 1", "prediction": "1"})
    path = tmp_path / "predictions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    import_file(path, "someone/model", "gsm8k", data, tmp_path / "results", SUITE)
    card = made(tmp_path, "someone/model")
    assert report.eval_results(card)[0].metric_name.endswith(", n = 200, imported from open-instruct")
    assert "| GSM8K | card-200, imported from open-instruct |" in report.section(card, SUITE)
    page = page_report.make(SUITE, tmp_path / "results", {"gsm8k": data})
    assert (page.runs, page.problems) == (1, ())
    assert page.promptless == (), "the question is the benchmark's; the page says that what was sent may differ"


def test_a_name_that_was_not_measured(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(right=121, model="my-checkpoint", revision="sha256:1")
    with pytest.raises(UserError, match=r"no whole run of my-chekpoint is under .*results\. Did you mean 'my-checkpoint'\?"):
        made(tmp_path, "my-chekpoint")
    assert made(tmp_path, "my-checkpoint").name == "my-checkpoint"
    assert made(tmp_path, "tulu-2-13b", published=True).entries == ()
