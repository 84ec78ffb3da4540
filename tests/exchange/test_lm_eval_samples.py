"""Samples that lm-eval itself writes for the suite's benchmarks, with a tiny model, become runs; its scores and ours agree."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from foreign_rows import write

from tulu_eval.errors import DataError, UserError
from tulu_eval.exchange.foreign import read_foreign
from tulu_eval.exchange.import_file import Imported, import_file
from tulu_eval.registry import load_suite
from tulu_eval.reports import import_file as report
from tulu_eval.runs.reading import read_run

SUITE = load_suite()
LIMIT = 3

TASKS = """
=== mmlu_anatomy
include: {tasks}/mmlu/default/mmlu_anatomy.yaml
task: mmlu_anatomy
=== bbh_cot_fewshot_navigate
include: {tasks}/bbh/cot_fewshot/navigate.yaml
task: bbh_cot_fewshot_navigate
=== truthfulqa_mc1
include: {tasks}/truthfulqa/truthfulqa_mc1.yaml
task: truthfulqa_mc1
=== truthfulqa_mc2
include: {tasks}/truthfulqa/truthfulqa_mc1.yaml
task: truthfulqa_mc2
doc_to_choice: "{{{{mc2_targets.choices}}}}"
=== ifeval
include: {tasks}/ifeval/ifeval.yaml
task: ifeval
=== humaneval_instruct
task: humaneval_instruct
output_type: generate_until
test_split: test
doc_to_text: "Write a solution to the following problem:\\n```python\\n{{{{ prompt }}}}\\n```\\n"
gen_prefix: "Here is the completed function:\\n```python\\n{{{{ prompt }}}}\\n"
doc_to_target: "{{{{test}}}}\\ncheck({{{{entry_point}}}})"
metric_list:
  - metric: bypass
filter_list:
  - name: "create_test"
    filter:
      - function: "custom"
        filter_fn: !function made.build_predictions_instruct
"""
"""lm-eval's own tasks, on local rows. HumanEval's is written out, for reading the original fetches a metric from the hub."""

PREDICTIONS = """
def build_predictions_instruct(resps, docs):
    return [[doc["prompt"] + each.partition("```")[0] for each in resp] for resp, doc in zip(resps, docs)]
"""


def documents(suite: Path) -> dict[str, tuple[str, list[dict[str, Any]]]]:
    """The rows of each task with their split, in the form of the hub's data sets, of the shared data."""

    def anatomy(part: str) -> list[dict[str, Any]]:
        text = (suite / f"mmlu/{part}/anatomy_{part}.csv").read_text(encoding="utf-8")
        return [
            {"question": one[0], "subject": "anatomy", "choices": one[1:5], "answer": int(one[5])}
            for one in list(csv.reader(io.StringIO(text, newline="")))[1:]
        ]

    choices = [
        {"question": row["question"], **{
            kind: {"choices": list(row[kind]), "labels": list(row[kind].values())} for kind in ("mc1_targets", "mc2_targets")
        }}
        for row in json.loads((suite / "truthfulqa/mc_task.json").read_text(encoding="utf-8"))
    ]  # fmt: skip
    with gzip.open(suite / "humaneval/HumanEval.jsonl.gz", "rt", encoding="utf-8") as file:
        problems = [json.loads(line) for line in file]
    bbh = json.loads((suite / "bbh/bbh/navigate.json").read_text(encoding="utf-8"))["examples"]
    instructions = [json.loads(line) for line in (suite / "ifeval/input_data.jsonl").read_text(encoding="utf-8").splitlines()]
    return {
        "mmlu_anatomy": ("test", anatomy("test")[:LIMIT]),
        "mmlu_anatomy-dev": ("dev", anatomy("dev")),
        "bbh_cot_fewshot_navigate": ("test", bbh[:LIMIT]),
        "truthfulqa_mc1": ("validation", choices[:LIMIT]),
        "truthfulqa_mc2": ("validation", choices[:LIMIT]),
        "ifeval": ("train", instructions[:LIMIT]),
        "humaneval_instruct": ("test", problems[:LIMIT]),
    }


@pytest.fixture(scope="module")
def sampled(shared: Path, llama3_like: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The files of samples that lm-eval wrote, by task; its ``hf`` engine with a tiny random model."""
    import lm_eval

    folder = tmp_path_factory.mktemp("lm-eval")
    (folder / "made.py").write_text(PREDICTIONS)
    docs = documents(shared / "data/suite")
    for name, (_, rows) in docs.items():
        write(folder / f"{name}.jsonl", rows)
    tasks = Path(lm_eval.__file__).parent / "tasks"
    for part in TASKS.format(tasks=tasks).split("=== ")[1:]:
        name, _, text = part.partition("\n")
        lines = [text, "dataset_path: json", "dataset_name: null", "dataset_kwargs:", "  data_files:"]
        lines.append(f"    {docs[name][0]}: {folder / name}.jsonl")
        if f"{name}-dev" in docs:
            lines.append(f"    dev: {folder / name}-dev.jsonl")
        if "generate_until" in text or name in ("bbh_cot_fewshot_navigate", "ifeval"):
            lines += ["generation_kwargs:", "  max_gen_toks: 16", "  do_sample: false", "  until: []"]
        (folder / f"{name}.yaml").write_text("\n".join(lines))
    names = [name for name in docs if not name.endswith("-dev")]
    words = f"run --model hf --model_args pretrained={llama3_like},dtype=float32 --device cpu --batch_size 1 --include_path ."
    subprocess.run(
        [sys.executable, "-m", "lm_eval", *words.split(), "--tasks", ",".join(names),
         "--log_samples", "--output_path", "out"],
        cwd=folder, check=True, capture_output=True, timeout=1500,
        env={**os.environ, "HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    return {name: next(folder.glob(f"out/*/samples_{name}_2*.jsonl")) for name in names}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def run_of(path: Path, benchmark: str, data: Path, output: Path) -> Imported:
    done = import_file(path, "tiny", benchmark, data, output, SUITE)
    assert len(done.matched.answers) == LIMIT, report.as_text(done)
    assert read_run(done.folder).doubts == ()
    return done


@pytest.mark.timeout(1800)
def test_choices_of_mmlu_are_graded_by_their_likelihoods(sampled: dict[str, Path], shared: Path, tmp_path: Path) -> None:
    path = sampled["mmlu_anatomy"]
    done = run_of(path, "mmlu", shared / "data/suite/mmlu", tmp_path)
    assert done.protocol == "0-shot"
    assert "its prompts are another recipe's than 0-shot's" in report.as_text(done)  # one space before the subject, not two
    samples = {sample.item: sample for sample in read_run(done.folder).samples()}
    for row in lines(path):
        sample = samples[f"anatomy-{row['doc_id']}"]
        assert [one.text for one in sample.completion.likelihoods] == [" A", " B", " C", " D"]
        assert [one.total for one in sample.completion.likelihoods] == [float(value) for ((value, _),) in row["resps"]]
        assert sample.grades[0].score == row["acc"]
        assert sample.status == "ok"
    row = done.results[0]
    assert (row.protocol, row.n, row.n_protocol, row.partial) == ("0-shot", LIMIT, 14042, True)
    assert "|d:likelihoods|" in row.signature


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("task", "protocol"), [("truthfulqa_mc1", "mc1"), ("truthfulqa_mc2", "mc")])
def test_references_of_truthfulqa(task: str, protocol: str, sampled: dict[str, Path], shared: Path, tmp_path: Path) -> None:
    """The prompts are the protocol's own in the plain form; the references lack their full stop, and count."""
    done = run_of(sampled[task], "truthfulqa", shared / "data/suite/truthfulqa/TruthfulQA.csv", tmp_path)
    assert (done.protocol, done.other_prompts) == (protocol, False)
    questions = {sample.completion.key: sample for sample in read_run(done.folder).samples()}
    by_texts = {tuple(one.text for one in sample.completion.likelihoods): sample for sample in questions.values()}
    for row in lines(sampled[task]):
        sample = by_texts[tuple(pair["arg_1"] for _, pair in sorted(row["arguments"].items(), key=lambda one: int(one[0][9:])))]
        totals = [float(value) for ((value, _),) in row["resps"]]
        assert sample.grades[0].score == row["acc"]  # MC1; lm-eval's own mc2 is computed below
        if protocol == "mc":
            labels = row["doc"]["mc2_targets"]["labels"]
            mass = [math.exp(total - max(totals)) for total in totals]
            right = sum(each for each, label in zip(mass, labels, strict=True) if label) / sum(mass)
            assert sample.grades[1].score == pytest.approx(right)


@pytest.mark.timeout(1800)
def test_generated_answers_of_bbh_ifeval_and_humaneval(
    sampled: dict[str, Path], shared: Path, tmp_path: Path, punkt: None
) -> None:
    suite = shared / "data/suite"
    done = run_of(sampled["bbh_cot_fewshot_navigate"], "bbh", suite / "bbh", tmp_path)
    assert (done.protocol, done.other_prompts) == ("cot", True)
    assert [item.id for item, _ in done.matched.answers] == [f"navigate-{place}" for place in range(LIMIT)]
    assert not run_of(sampled["ifeval"], "ifeval", suite / "ifeval/input_data.jsonl", tmp_path).other_prompts
    path = sampled["humaneval_instruct"]
    done = run_of(path, "humaneval", suite / "humaneval/HumanEval.jsonl.gz", tmp_path)
    assert (done.protocol, done.other_prompts) == ("greedy", True)  # an instruction stands before the row's prompt
    samples = {sample.item: sample for sample in read_run(done.folder).samples()}
    for row in lines(path):
        sample = samples[row["doc"]["task_id"]]
        assert row["doc"]["prompt"] + sample.completion.text == row["filtered_resps"][0][0]
        assert sample.grades[0].scorer == "tests"


@pytest.mark.timeout(1800)
def test_what_a_benchmark_cannot_take_is_one_line(sampled: dict[str, Path], shared: Path, tmp_path: Path) -> None:
    suite = shared / "data/suite"
    for task, benchmark, data, message in (
        (
            "mmlu_anatomy",
            "gsm8k",
            shared / "data/gsm8k/test.jsonl",
            "has likelihoods of choices, and gsm8k is graded by a generated text",
        ),
        (
            "bbh_cot_fewshot_navigate",
            "mmlu",
            suite / "mmlu",
            "has a generated text per item, and mmlu is graded by likelihoods of choices",
        ),
        ("truthfulqa_mc1", "mmlu", suite / "mmlu", "none of its 3 answers is to an item of mmlu"),
        ("ifeval", "bbh", suite / "bbh", "none of its 3 answers is to an item of bbh"),
    ):
        with pytest.raises(UserError) as caught:
            import_file(sampled[task], "tiny", benchmark, data, tmp_path, SUITE)
        assert message in str(caught.value)
        assert str(caught.value).isprintable()


def choice(**more: Any) -> dict[str, Any]:
    pair = {"arg_0": "Q", "arg_1": " A"}
    doc = {"question": "q", "choices": ["1", "2", "3", "4"], "answer": 0, "subject": "anatomy"}
    return {"doc": doc, "arguments": {"gen_args_0": pair}, "resps": [[["-1.5", "True"]]], "filter": "none", **more}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"resps": [[["nan", "True"]]]}, "its 'resps' are not log-probabilities of its choices"),
        ({"resps": [[["2.5", "True"]]]}, "its 'resps' are not log-probabilities of its choices"),
        ({"resps": [["text"]]}, "its 'resps' are not log-probabilities of its choices"),
        ({"resps": []}, "has 1 choices and not as many 'resps'"),
        ({"arguments": {f"gen_args_{n}": {"arg_0": str(n), "arg_1": " A"} for n in range(2)}}, "after several prompts"),
        ({"doc": {"question": "q", "choices": ["1"], "answer": 0}}, "its 'choices' are not four texts"),
        ({"doc": {"question": "q", "choices": list("1234"), "answer": 4}}, "its 'answer' is not a number from 0 to 3"),
        ({"doc": {"task_id": "x", "prompt": "p", "entry_point": "e"}}, "field 'test' is missing"),
    ],
)
def test_rows_of_choices_that_cannot_be_taken(tmp_path: Path, more: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        read_foreign(write(tmp_path / "x.jsonl", [choice(**more)]))
    assert message in str(caught.value)


def test_older_versions_have_numbers_and_lists(tmp_path: Path) -> None:
    row = choice(arguments=[["Q", " A"], ["Q", " B"]], resps=[[[-1.5, True]], [[-0.5, False]]])
    (answer,) = read_foreign(write(tmp_path / "x.jsonl", [row])).answers
    assert [(one.text, one.total) for one in answer.likelihoods] == [(" A", -1.5), (" B", -0.5)]
    assert (answer.prompt, answer.text, answer.answer, answer.group) == ("Q", " B", "A", "anatomy")
