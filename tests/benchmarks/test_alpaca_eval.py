"""AlpacaEval's instructions and how they are asked."""

from __future__ import annotations

import json

import pytest

from tulu_eval.benchmarks.alpaca_eval import AlpacaEval
from tulu_eval.benchmarks.alpaca_set import load_baseline
from tulu_eval.benchmarks.base import classify
from tulu_eval.errors import DataError
from tulu_eval.judging.outputs import read_outputs
from tulu_eval.records import Completion


@pytest.fixture(scope="module")
def folder(shared):
    return shared / "data" / "alpaca_eval"


@pytest.fixture
def benchmark():
    return AlpacaEval()


@pytest.mark.parametrize("name", ["alpaca_eval_set.json", "alpaca_eval_gpt4_baseline.json"])
def test_the_805_in_order_from_either_file(benchmark, folder, name):
    items = benchmark.load(benchmark.protocol(None), folder / name)
    baseline = load_baseline(folder / "alpaca_eval_gpt4_baseline.json")
    assert [item.question for item in items] == [row.instruction for row in baseline]
    assert [item.id for item in items] == [f"alpaca-{place}" for place in range(805)]


def test_the_prompt_is_the_instruction_unstripped(benchmark, folder):
    items = benchmark.load(benchmark.protocol(None), folder / "alpaca_eval_set.json")
    for item in items:
        prompt = benchmark.render(item)
        assert (prompt.user, prompt.prefill, prompt.plain) == (item.question, "", item.question)
    assert any(item.question != item.question.strip() for item in items)


def test_the_published_decoding(benchmark):
    protocol = benchmark.protocol("published")
    assert protocol.decoding.greedy
    assert protocol.decoding.max_new_tokens == 8192
    assert protocol.decoding.stop == protocol.plain_decoding.stop == ()
    assert protocol.n == 805


@pytest.mark.parametrize(
    ("text", "reason", "status"),
    [("An answer.\n", "stop", "ok"), (" \n", "stop", "empty"), ("", "length", "empty"), ("and on", "length", "truncated"),
     ("", "error", "engine_error")],
)  # fmt: skip
def test_empty_and_truncated_outputs_are_counted(benchmark, text, reason, status):
    completion = Completion("k", text, (), reason, 0.0)
    grades = benchmark.grade("", text)
    assert classify(completion, grades) == status
    assert benchmark.scores_of_class(status) == tuple(grade.score for grade in grades)


def test_another_set_is_refused(benchmark, folder, tmp_path):
    rows = json.loads((folder / "alpaca_eval_set.json").read_text())
    path = tmp_path / "set.json"
    path.write_text(json.dumps(rows[:-1]))
    with pytest.raises(DataError, match="has 804 rows, not AlpacaEval's 805"):
        benchmark.load(benchmark.protocol(None), path)
    rows[3]["instruction"] += " "
    path.write_text(json.dumps(rows))
    with pytest.raises(DataError, match="row 4 is not instruction 4"):
        benchmark.load(benchmark.protocol(None), path)


def test_the_export_is_read_by_alpaca_evals_tools_and_ours(benchmark, folder, tmp_path):
    items = benchmark.load(benchmark.protocol(None), folder / "alpaca_eval_set.json")
    texts = [f"  line {at}\n\n\ud800" for at in range(len(items))]
    ((name, content),) = benchmark.export(zip(items, texts, strict=True), "mine").items()
    assert name == "model_outputs.json"
    (tmp_path / name).write_text(content)
    found = read_outputs(tmp_path / name)
    assert (found.generator, list(found.by_place.values())) == ("mine", texts)
    assert [row["instruction"] for row in json.loads(content)] == [item.question for item in items]
