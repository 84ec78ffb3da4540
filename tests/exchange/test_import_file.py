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
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tulu_eval.benchmarks.base import Item
from tulu_eval.benchmarks.gsm8k import GSM8K
from tulu_eval.errors import DataError, UserError
from tulu_eval.exchange import bundle
from tulu_eval.exchange.foreign import ForeignAnswer, read_foreign
from tulu_eval.exchange.import_file import Imported, import_file, match, placed, right_answer
from tulu_eval.exchange.lm_eval import ForeignDecoding
from tulu_eval.findings.audit import audit
from tulu_eval.findings.compare import compare
from tulu_eval.findings.table import collect
from tulu_eval.findings.verify import against, verify
from tulu_eval.registry import load_suite
from tulu_eval.reports import compare as compare_report
from tulu_eval.reports import import_file as import_report
from tulu_eval.runs.manifest_schema import StoredTemplate, plain
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.reading import read_run
from tulu_eval.runs.score import score

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


def sampled(rows: Sequence[dict[str, str]], **more: Any) -> list[dict[str, Any]]:
    """Rows as lm-eval writes them for one filter."""
    kwargs = {"do_sample": False, "until": ["Q:"], "max_gen_toks": 512}
    return [
        {
            "doc_id": place, "doc": row, "resps": [[" The answer is 0."]], "filter": "strict-match",
            "arguments": {"gen_args_0": {"arg_0": f"Q: {row['question']}\nA:", "arg_1": kwargs}}, **more,
        }
        for place, row in enumerate(rows)
    ]  # fmt: skip


def write(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


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


@pytest.mark.parametrize(
    ("prompt", "turns"),
    [
        ([json.dumps([{"role": "system", "content": "Be."}, {"role": "user", "content": "Q"}])], ("Be.", "Q")),
        ([{"role": "user", "content": [{"type": "text", "text": "Q"}, {"type": "image_url"}]}], ("Q",)),
        ([{"role": "user", "content": "Q"}, {"role": "assistant", "content": None}], ("Q", "")),
    ],
)
def test_forms_of_messages(tmp_path: Path, prompt: Any, turns: tuple[str, ...]) -> None:
    path = write(tmp_path / "x.jsonl", [row(arguments={"gen_args_0": {"arg_0": prompt, "arg_1": {}}})])
    (answer,) = read_foreign(path).answers
    assert (answer.prompt, answer.turns) == (None, turns)


def test_a_results_file_that_cannot_be_read_is_said(test_set: Path, gsm8k_rows: list[dict[str, str]], tmp_path: Path) -> None:
    date = "2025-01-02T03-04-05.678901"
    path = write(tmp_path / f"samples_gsm8k_{date}.jsonl", sampled(gsm8k_rows[:2]))
    results = tmp_path / f"results_{date}.json"
    results.write_text('{"lm_eval_version": "0.4.13", "results": {"acc_stderr": NaN}}')
    assert read_foreign(path).version == "0.4.13"
    assert read_foreign(path).template_sha256 == "unknown"  # the key is not there
    results.write_text("{")
    with pytest.raises(DataError, match=r"results_.*\.json:1: is not JSON"):
        read_foreign(path)


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
    ("answer", "right"),
    [("18", "18"), ("x 1,2 #### 1,234,567", "1234567"), ("#### 5 ", "5"), ("-3", "-3"), ("a, b", "a, b"), ("", "")],
)
def test_right_answer(answer: str, right: str) -> None:
    assert right_answer(answer) == right


QUESTIONS = st.sampled_from(["One?", "one?", " One? ", "One ?", "Two?", "Three?", ""])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(QUESTIONS, st.sampled_from(["1", "2", "#### 1"])), max_size=12))
def test_every_answer_is_counted_once_and_every_item_is_answered_or_missing(pairs: list[tuple[str, str]]) -> None:
    items = [Item("a", "One?", "1"), Item("b", "Two?", "2")]
    answers = [ForeignAnswer(line, question, answer, None, "", None) for line, (question, answer) in enumerate(pairs, start=1)]
    found = match(items, answers)
    kinds = [[one for _, one in found.answers], found.foreign, found.changed, found.repeated]
    assert sorted(one.line for kind in kinds for one in kind) == [one.line for one in answers]
    assert {item.id for item, _ in found.answers} | {item.id for item in found.missing} == {"a", "b"}
    assert len(found.answers) + len(found.missing) == 2


def row(**more: Any) -> dict[str, Any]:
    return {**sampled([{"question": "q?", "answer": "#### 1"}])[0], **more}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"id": 1, "output": "x"}], "x.jsonl:1: is of no harness known here (a row has 'id', 'output'); known are lm-eval's"),
        ([{}], "x.jsonl:1: is of no harness known here (a row has no field)"),
        ([row(), {"doc": {}}], "x.jsonl:2: has no 'arguments', which every row of lm-eval has"),
        ([row(doc={"text": "x"})], "x.jsonl:1: field 'question' is missing or not a string"),
        ([row(doc=["q"])], "x.jsonl:1: field 'question' is missing or not a string"),
        ([row(resps=[["a", "b"]])], "x.jsonl:1: has 2 responses to one item (repeats); a ledger has one"),
        ([row(resps=[["a"], ["b"]])], "x.jsonl:1: has 2 responses to one item (repeats); a ledger has one"),
        ([row(resps=[[-1.5, True]])], "x.jsonl:1: its 'resps' are not texts"),
        ([row(resps=[])], "x.jsonl:1: its 'resps' are not texts"),
        ([row(resps=5)], "x.jsonl:1: its 'resps' are not texts"),
        ([row(arguments={"gen_args_0": {"arg_0": "a", "arg_1": "b"}})], "x.jsonl:1: its 'arguments' are not a prompt and"),
        ([row(arguments=[])], "x.jsonl:1: its 'arguments' are not a prompt and settings"),
        ([row(), row(filter="flexible", resps=[["other"]])], "x.jsonl:2: has other responses to item 0 under filter"),
        ([{"question": "q", "answer": 5, "model_output": "", "prediction": ""}], "x.jsonl:1: field 'answer' is missing or not"),
        ([[1]], "x.jsonl: row 1: is int, not an object"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_taken_is_one_line(tmp_path: Path, rows: list[Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        read_foreign(write(tmp_path / "x.jsonl", rows))
    assert message in str(caught.value)
    assert str(caught.value).isprintable()


def test_arguments_of_older_versions(tmp_path: Path) -> None:
    found = read_foreign(
        write(tmp_path / "x.jsonl", [row(arguments=[["Q: q?", {"until": "\n", "do_sample": True, "temperature": 1}]])])
    )
    assert found.answers[0].prompt == "Q: q?"
    assert found.decoding == ForeignDecoding(temperature=1.0, stop=("\n",))


def test_settings_that_change_within_a_file_are_unknown(tmp_path: Path) -> None:
    other = row(doc_id=1, arguments={"gen_args_0": {"arg_0": "x", "arg_1": {"max_gen_toks": 7}}})
    assert read_foreign(write(tmp_path / "x.jsonl", [row(), other])).decoding == ForeignDecoding()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["doc", "doc_id", "resps", "arguments", "filter"]), JSON, st.booleans())
def test_a_row_with_anything_in_it_is_read_or_is_one_line(
    tmp_path_factory: pytest.TempPathFactory, field: str, value: Any, inner: bool
) -> None:
    changed = row()
    if inner and field == "arguments":
        changed["arguments"]["gen_args_0"]["arg_1"] = value
    else:
        changed[field] = value
    path = write(tmp_path_factory.mktemp("any") / "samples_x_2025-01-02T03-04-05.1.jsonl", [row(doc_id=7), changed])
    path.with_name("results_2025-01-02T03-04-05.1.json").write_text(json.dumps({"config": value, "model_name": value}))
    try:
        found = read_foreign(path)
    except DataError:
        return
    assert all(isinstance(one.text, str) and isinstance(one.question, str) for one in found.answers)


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


def in_order(count: int, reworded: Sequence[int] = ()) -> tuple[list[Item], list[ForeignAnswer]]:
    """Items, and an answer to each in their order, some with other questions."""
    items = [Item(f"i{place}", f"question {place}", "t") for place in range(count)]
    answers = [
        ForeignAnswer(place + 1, f"{'other ' if place in reworded else ''}{item.question}", None, None, "text", None)
        for place, item in enumerate(items)
    ]
    return items, answers


def test_a_few_reworded_questions_are_taken_by_their_place() -> None:
    items, answers = in_order(200, reworded=[7, 150])
    found = placed(items, answers, match(items, answers))
    assert found.answers == tuple(zip(items, answers, strict=True))
    assert [one.line for one in found.reworded] == [8, 151]
    assert found.foreign == found.missing == ()


@pytest.mark.parametrize("change", ["many reworded", "one less", "another order", "none reworded"])
def test_nothing_is_taken_by_its_place_where_places_say_little(change: str) -> None:
    items, answers = in_order(200, reworded={"many reworded": [7, 8, 9], "none reworded": []}.get(change, [7]))
    if change == "one less":
        answers = answers[:-1]
    elif change == "another order":
        answers[20], answers[30] = answers[30], answers[20]
    matched = match(items, answers)
    assert placed(items, answers, matched) == matched


@pytest.fixture(scope="module")
def gpt_4(shared: Path, punkt: None, tmp_path_factory: pytest.TempPathFactory) -> Imported:
    """Google's stored outputs of GPT-4 to IFEval, as a run."""
    folder = shared / "data/suite/ifeval"
    path = folder / "input_response_data_gpt4_20231107_145030.jsonl"
    return import_file(path, "gpt-4", "ifeval", folder / "input_data.jsonl", tmp_path_factory.mktemp("gpt-4"), SUITE)


def test_prompts_and_responses_of_ifeval(gpt_4: Imported) -> None:
    assert (gpt_4.source.harness, len(gpt_4.matched.answers)) == ("responses", 541)
    assert [one.line for one in gpt_4.matched.reworded] == [340]
    run = read_run(gpt_4.folder)
    assert run.results == gpt_4.results
    assert run.manifest.imported
    assert run.manifest.imported.reworded == 1
    assert [(row.scorer, round(row.value, 2), row.n, row.interval) for row in run.results[:4]] == [
        ("oi-loose-prompt", 79.67, 541, "wilson95"),
        ("oi-loose-instruction", 85.61, 541, "clustered95"),
        ("oi-strict-prompt", 77.08, 541, "wilson95"),
        ("oi-strict-instruction", 83.69, 541, "clustered95"),
    ]
    assert "1 taken by their place (the item's question is worded differently): line 340" in import_report.as_text(gpt_4)


def test_ifeval_s_cell_is_verified_by_counts_of_prompts(gpt_4: Imported) -> None:
    found = verify(read_run(gpt_4.folder), SUITE, stand_in="llama-3-tulu-2-8b")
    (one,) = found.comparisons
    assert (one.row.scorer, one.cell.printed, one.cell.n) == ("oi-loose-prompt", "0.468", 541)
    assert one.agreement.verdict == "inconsistent"
    assert "(431/541)" in one.agreement.explanation
    assert [row.scorer for row in found.beside] == ["loose-prompt"]


def test_a_row_that_is_no_share_of_items_is_never_compared_as_a_count(gpt_4: Imported) -> None:
    run = read_run(gpt_4.folder)
    (cell,) = SUITE.cells(SUITE.find("llama-3-tulu-2-8b"), "ifeval")
    row = next(row for row in run.results if row.scorer == "oi-loose-instruction")
    found = against(run, row, cell, SUITE, same_weights=False)
    assert found.agreement.method == "normal"
    assert "/541" not in found.agreement.explanation


def test_lm_eval_s_samples_of_ifeval(shared: Path, punkt: None, tmp_path: Path) -> None:
    data = shared / "data/suite/ifeval/input_data.jsonl"
    rows = [json.loads(line) for line in data.read_text(encoding="utf-8").splitlines()[:3]]
    samples = [
        {"doc_id": place, "doc": row, "resps": [["A reply without that mark"]], "filter": "none",
         "arguments": {"gen_args_0": {"arg_0": row["prompt"], "arg_1": {"until": [], "max_gen_toks": 1280}}}}
        for place, row in enumerate(rows)
    ]  # fmt: skip
    done = import_file(write(tmp_path / "samples.jsonl", samples), "m", "ifeval", data, tmp_path / "results", SUITE)
    assert [item.id for item, _ in done.matched.answers] == ["1000", "1001", "1005"]
    assert [sample.grades[4].score for sample in read_run(done.folder).samples()] == [0.0, 1.0, 0.0]
