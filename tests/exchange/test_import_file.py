"""Runs from other harnesses' files: they keep what a file says, the rest is unknown, and answers that do not fit are named."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from foreign_rows import sampled, write
from msgspec.structs import replace

from tulu_eval.benchmarks.base import Item
from tulu_eval.benchmarks.gsm8k import GSM8K
from tulu_eval.errors import UserError
from tulu_eval.exchange import bundle
from tulu_eval.exchange.import_file import Imported, import_file
from tulu_eval.exchange.import_matching import right_answer
from tulu_eval.exchange.lm_eval import ForeignDecoding
from tulu_eval.findings.audit import audit
from tulu_eval.findings.compare import compare
from tulu_eval.findings.table import collect
from tulu_eval.findings.verify import verify
from tulu_eval.registry import load_suite
from tulu_eval.reports import compare as compare_report
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.reading import read_run
from tulu_eval.runs.score import score
from tulu_eval.store.setup_schema import StoredTemplate, plain

SUITE = load_suite()
MODEL = "allenai/tulu-2-13b"


@pytest.fixture(scope="module")
def test_set(shared: Path) -> Path:
    return shared / "data/gsm8k/test.jsonl"


@pytest.fixture(scope="module")
def gsm8k_rows(test_set: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in test_set.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def genuine(test_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The samples file that lm-eval itself writes: its own model without weights, GSM8K's CoT task, four items."""
    folder = tmp_path_factory.mktemp("lm-eval")
    import lm_eval

    task = Path(lm_eval.__file__).parent / "tasks/gsm8k/gsm8k-cot.yaml"
    (folder / "local.yaml").write_text(
        f"include: {task}\ntask: gsm8k_cot_local\ndataset_path: json\ndataset_name: null\n"
        f"dataset_kwargs:\n  data_files:\n    test: {test_set.resolve()}\n"
    )
    words = "run --model dummy --tasks gsm8k_cot_local --include_path . --limit 4 --log_samples --output_path out"
    subprocess.run(
        [sys.executable, "-m", "lm_eval", *words.split()],
        cwd=folder, check=True, capture_output=True, timeout=300,
        env={**os.environ, "HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    (path,) = folder.rglob("samples_gsm8k_cot_local_*.jsonl")
    return path


def predictions(rows: Sequence[dict[str, str]], right: int) -> list[dict[str, str]]:
    """Rows as open-instruct's ``run_eval.py`` writes them, the first ``right`` of them right."""
    found = []
    for place, row in enumerate(rows):
        answer = right_answer(row["answer"])
        said = answer if place < right else "0"
        found.append(
            {"question": row["question"], "answer": answer, "model_output": f" So the answer is {said}.", "prediction": said}
        )
    return found


def imported(path: Path, test_set: Path, output: Path, model: str = MODEL) -> Imported:
    return import_file(path, model, "gsm8k", test_set, output, SUITE)


def published_rows(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    from tulu_eval.benchmarks.gsm8k import published_indices

    return [rows[place] for place in published_indices()]


def test_what_lm_eval_really_writes(genuine: Path, test_set: Path, tmp_path: Path) -> None:
    done = imported(genuine, test_set, tmp_path / "results", "some/model@abc123")
    assert (done.source.harness, done.source.version, done.source.task) == ("lm-eval", "0.4.13", "gsm8k_cot_local")
    assert done.source.lines == 8  # two filters
    assert [item.id for item, _ in done.matched.answers] == ["test-1", "test-0", "test-2", "test-3"]  # published ones first
    assert done.source.decoding == ForeignDecoding(None, 0.0, 1.0, 0, ("Q:", "</s>", "<|im_end|>"), 0)
    run = read_run(done.folder)
    assert [sample.completion.text for sample in run.samples()] == ["lol"] * 4
    assert [(row.protocol, row.scorer, row.n, row.n_protocol, row.counts["no_answer"]) for row in run.results] == [
        ("card-200", "last-number", 1, 200, 1),
        ("card-200", "stated-answer", 1, 200, 1),
        ("full", "last-number", 4, 1319, 4),
        ("full", "stated-answer", 4, 1319, 4),
    ]
    assert run.results[2].signature.partition("|p:")[2] == (
        "unknown/imported@none|x:last-number|d:greedy,unknown|m:some/model@abc123|e:lm-eval-0.4.13/unknown+unknown"
    )
    first = json.loads(genuine.read_text().splitlines()[0])
    assert first["prompt_hash"] in {sample.prompt_sha256 for sample in run.samples()}  # lm-eval's own hash of the prompt


def test_open_instruct_predictions_verify_compare_score_table_and_bundle(
    test_set: Path, gsm8k_rows: list[dict[str, str]], tmp_path: Path
) -> None:
    rows = published_rows(gsm8k_rows)
    done = imported(write(tmp_path / "predictions.jsonl", predictions(rows, 92)), test_set, tmp_path / "results")
    assert (len(done.matched.answers), len(done.matched.missing), done.misread) == (200, 1119, ())
    run = read_run(done.folder)
    row = run.results[0]
    assert (row.protocol, row.value, row.n, row.partial) == ("card-200", 46.0, 200, False)
    assert row.signature == (
        "gsm8k:card-200|n:200@67fd6fed|p:unknown/imported@unknown|x:last-number|d:unknown,unknown"
        "|m:allenai/tulu-2-13b@unknown|e:open-instruct-unknown/unknown+unknown"
    )
    found = verify(run, SUITE)
    assert found.same_weights is False  # a name without a commit
    assert [(one.cell.printed, one.agreement.verdict) for one in found.comparisons] == [("46.0", "cannot tell")]
    assert {(one.name, one.run) for one in found.differences} >= {
        ("prompt", "unknown"), ("template", "imported"), ("decoding.temperature", "unknown"), ("decoding.stop", "unknown"),
    }  # fmt: skip
    assert run.doubts == ()
    assert score(done.folder).results == run.results
    other = imported(write(tmp_path / "other.jsonl", predictions(rows, 90)), test_set, tmp_path / "others")
    compared = compare(run, read_run(other.folder))
    assert (compared.paired.n, compared.paired.only_a, compared.paired.only_b) == (200, 2, 0)
    lines = [line for line in collect(SUITE, tmp_path / "results").lines if line.entries[0].measured]
    assert [(line.label, line.size, line.on_card) for line in lines] == [
        ("allenai/tulu-2-13b (imported from open-instruct)", "13B", False)
    ]
    bundle.write(bundle.make(done.folder), tmp_path / "b.zip")
    checked = bundle.verify(tmp_path / "b.zip")
    assert (checked.problems, checked.samples) == ((), 200)
    with pytest.raises(UserError, match="was imported from open-instruct; only a run of our own can be repeated"):
        audit(done.folder, SUITE, Progress(quiet=True), items=1)


def test_with_the_commit_that_lm_eval_noted_the_weights_are_the_released_ones(
    test_set: Path, gsm8k_rows: list[dict[str, str]], tmp_path: Path
) -> None:
    date = "2025-01-02T03-04-05.678901"
    path = write(tmp_path / f"samples_gsm8k_{date}.jsonl", sampled(published_rows(gsm8k_rows)))
    config = {"model_sha": "0123456789abcdef", "model_dtype": "torch.bfloat16", "model_num_parameters": 13_015_864_320}
    config |= {"model": "hf", "model_args": "pretrained=/home/me/tulu-2-13b/,dtype=bfloat16", "limit": None}
    results = {"lm_eval_version": "0.4.9", "config": config, "chat_template": "x", "chat_template_sha": "feedbeef00"}
    (tmp_path / f"results_{date}.json").write_text(json.dumps({**results, "model_name": "/home/me/tulu-2-13b/"}))
    done = imported(path, test_set, tmp_path / "results")
    run = read_run(done.folder)
    assert run.results[0].signature.endswith(
        "p:unknown/imported@feedbeef|x:last-number|d:greedy,512|m:allenai/tulu-2-13b@01234567|e:lm-eval-0.4.9/bfloat16"
    )
    assert verify(run, SUITE).same_weights is True
    assert run.manifest.imported
    assert run.manifest.imported.called == "tulu-2-13b"
    assert "/home/me" not in (done.folder / "manifest.json").read_text()
    with pytest.raises(UserError, match="--model says revision fff, and the harness measured 0123456789abcdef"):
        imported(path, test_set, tmp_path / "results", f"{MODEL}@fff")


def test_what_the_file_does_not_say_is_unknown_in_every_field(
    test_set: Path, gsm8k_rows: list[dict[str, str]], tmp_path: Path
) -> None:
    done = imported(write(tmp_path / "predictions.jsonl", predictions(gsm8k_rows[:3], 3)), test_set, tmp_path / "r", "me/mine")
    manifest = read_run(done.folder).manifest
    assert set(plain(manifest.decoding).values()) == {None}
    assert plain(manifest.settings) == {"quantization": "unknown", "adapter": "unknown"}
    assert (manifest.eos_ids, manifest.seed, manifest.limit, manifest.dtype) == (None, None, "unknown", "unknown")
    assert (manifest.template.sha256, manifest.model.revision) == ("unknown", "unknown")
    sampled_rows = sampled(gsm8k_rows[:3])
    for one in sampled_rows:
        one["arguments"]["gen_args_0"]["arg_1"] = {"until": ["Q:"], "temperature": 0.7, "max_gen_toks": 512}
    done = imported(write(tmp_path / "samples.jsonl", sampled_rows), test_set, tmp_path / "r", "me/mine")
    assert "|d:unknown,512|" in done.results[0].signature
    for one in sampled_rows:
        one["arguments"]["gen_args_0"]["arg_1"] |= {"do_sample": True}
    done = imported(write(tmp_path / "samples.jsonl", sampled_rows), test_set, tmp_path / "r", "me/mine")
    assert "|d:t0.7,seedunknown,512|" in done.results[0].signature


def test_the_samples_of_a_chat_server_and_a_null(shared: Path, test_set: Path, tmp_path: Path) -> None:
    cases = shared / "cases/12-import-chat-api"
    done = imported(cases / "chatapi.jsonl", test_set, tmp_path / "r", "me/served")
    assert [answer.prompt for _, answer in done.matched.answers] == [None] * len(done.matched.answers)
    assert done.matched.answers[0][1].turns[0].startswith(done.matched.answers[0][0].question[:20])
    run = read_run(done.folder)
    assert {sample.prompt_sha256 for sample in run.samples()} == {"unknown"}
    assert run.manifest.template == StoredTemplate(form="imported", sha256="unknown", source="lm-eval")
    done = imported(cases / "nullresp.jsonl", test_set, tmp_path / "r", "me/served")
    lines = (cases / "nullresp.jsonl").read_text().splitlines()
    assert (done.source.nulls, len(done.matched.answers)) == (1, len(lines))
    assert read_run(done.folder).results[-1].counts["empty"] == 1


def test_two_runs_of_one_test_set_have_the_same_data_and_what_is_unknown_is_said(
    make_run: Any, test_set: Path, gsm8k_rows: list[dict[str, str]], tmp_path: Path
) -> None:
    rows = published_rows(gsm8k_rows)
    one = read_run(imported(write(tmp_path / "a.jsonl", predictions(rows, 9)), test_set, tmp_path / "r").folder)
    other = read_run(imported(write(tmp_path / "b.jsonl", predictions(rows, 8)), test_set, tmp_path / "r").folder)
    found = compare(one, other)
    kinds = {change.name: (change.a, change.b) for change in found.changes if change.kind == "unknown"}
    assert kinds["decoding.temperature"] == kinds["model.revision"] == kinds["dtype"] == ("unknown", "unknown")
    assert kinds["model.tokenizer_sha256"] == ("unknown", "unknown")
    assert not [change for change in found.changes if change.kind != "unknown"]
    assert not [name for name in kinds if "data" in name or "items" in name or name.startswith("protocol.decoding")]
    (flip,) = found.flips
    assert (flip.cause, flip.divergence and flip.divergence.token) == ("prompt unknown", None)
    text = compare_report.as_text(found)
    assert "Unknown in both: model.revision" in text
    assert "differs in the manifests" not in text
    manifest = replace(read_run(make_run()).manifest, planned=one.manifest.planned, keys=one.manifest.keys)
    ours = dataclasses.replace(one, about=manifest)
    mixed = {change.name: (change.a, change.b) for change in compare(ours, other).changes if change.kind == "unknown"}
    assert mixed["decoding.temperature"] == ("0.0", "unknown")
    assert "benchmark.data_sha256" not in mixed


def test_prompts_that_are_ours_are_known(test_set: Path, gsm8k_rows: list[dict[str, str]], tmp_path: Path) -> None:
    benchmark = GSM8K()
    rows = sampled(gsm8k_rows[:3])
    for row in rows:
        row["arguments"]["gen_args_0"]["arg_0"] = benchmark.render(Item("x", row["doc"]["question"], "1")).plain
    done = imported(write(tmp_path / "plain.jsonl", rows), test_set, tmp_path / "results")
    assert "|p:bc98d286/plain@unknown|" in done.results[0].signature
    for row in rows:
        row["arguments"]["gen_args_0"]["arg_0"] = "<|user|>" + row["arguments"]["gen_args_0"]["arg_0"]
    done = imported(write(tmp_path / "chat.jsonl", rows), test_set, tmp_path / "results")
    assert "|p:bc98d286/imported@unknown|" in done.results[0].signature


def test_foreign_changed_repeated_and_missing_items_are_told_apart(
    test_set: Path, gsm8k_rows: list[dict[str, str]], tmp_path: Path
) -> None:
    rows = predictions(gsm8k_rows[:8], 8)
    rows[1]["question"] = "What is the meaning of life?"
    rows[2]["question"] = rows[2]["question"].upper()
    rows[3]["answer"] = "12345"
    rows[4]["prediction"] = "7777"
    rows.append({**rows[0], "model_output": "another 5"})
    done = imported(write(tmp_path / "predictions.jsonl", rows), test_set, tmp_path / "results")
    found = done.matched
    assert [one.line for one in found.foreign] == [2]
    assert [one.line for one in found.changed] == [3, 4]
    assert [one.line for one in found.repeated] == [9]
    assert done.misread == ("test-4",)
    assert (len(found.answers), len(found.missing)) == (5, 1314)
    note = read_run(done.folder).manifest.imported
    assert note
    assert {name: getattr(note, name) for name in ("lines", "answers", "foreign", "changed", "repeated", "missing")} == {
        "lines": 9, "answers": 5, "foreign": 1, "changed": 2, "repeated": 1, "missing": 1314,
    }  # fmt: skip


def test_importing_again_changes_nothing_but_times(test_set: Path, gsm8k_rows: list[dict[str, str]], tmp_path: Path) -> None:
    path = write(tmp_path / "predictions.jsonl", predictions(gsm8k_rows[:5], 3))
    first = imported(path, test_set, tmp_path / "results")
    before = {name: (first.folder / name).read_bytes() for name in ("samples.jsonl", "result.json")}
    again = imported(path, test_set, tmp_path / "results")
    assert again.folder == first.folder
    assert {name: (first.folder / name).read_bytes() for name in before} == before


@pytest.mark.parametrize(
    ("path", "change"),
    [
        (("planned",), lambda ids: ids[::-1]),
        (("items", "card-200"), lambda ids: ids[:-1]),
        (("items", "card-200"), lambda ids: [*ids[:-1], "test-5000"]),
        (("imported", "answers"), lambda count: count + 1),
        (("imported", "missing"), lambda count: count - 1),
    ],
    ids=["order", "too few", "not of the data set", "answers", "missing"],
)
def test_items_that_the_file_cannot_hold_are_a_doubt(
    test_set: Path, gsm8k_rows: list[dict[str, str]], tmp_path: Path, path: tuple[str, ...], change: Callable[[Any], Any]
) -> None:
    done = imported(
        write(tmp_path / "predictions.jsonl", predictions(published_rows(gsm8k_rows), 92)), test_set, tmp_path / "results"
    )
    assert read_run(done.folder).doubts == ()
    manifest = json.loads((done.folder / "manifest.json").read_text())
    inner = manifest
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = change(inner[path[-1]])
    (done.folder / "manifest.json").write_text(json.dumps(manifest))
    assert any("its items are not those of its protocol, counts" in line for line in read_run(done.folder).doubts)
