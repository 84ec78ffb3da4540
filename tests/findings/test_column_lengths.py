"""The assumed lengths of the suite's columns are those of the rendered prompts, and of the runs that are here."""

from __future__ import annotations

from pathlib import Path

import pytest

import tulu_eval
from tulu_eval.benchmarks.likelihood import LikelihoodBenchmark
from tulu_eval.findings.column_lengths import LENGTHS
from tulu_eval.runs import catalog, estimate

DATA = {
    "gsm8k": "gsm8k/test.jsonl",
    "bbh": "suite/bbh",
    "humaneval": "suite/humaneval/HumanEval.jsonl.gz",
    "truthfulqa": "suite/truthfulqa/TruthfulQA.csv",
    "ifeval": "suite/ifeval/input_data.jsonl",
    "xstest": "suite/xstest/xstest_v2_prompts.csv",
    "alpaca-eval": "alpaca_eval/alpaca_eval_gpt4_baseline.json",
    "mmlu": "suite/mmlu",
}
"""Files of the columns whose prompts were counted; TyDi QA's are not here."""

RUNS = {
    "gsm8k": "full-bf64c123",
    "bbh": "cot-sorted-40-af0c53df",
    "xstest": "card-450-63fbcab6",
    "ifeval": "lighteval-06bb116b",
}
RESULTS = Path(__file__).resolve().parents[2] / "results" / "smollm2-135m-instruct"


def test_every_column_of_the_suite_has_lengths() -> None:
    members = catalog.suite("tulu-2.5").members
    names = [(one.benchmark, catalog.benchmark(one.benchmark).protocol(one.protocol).name) for one in members]
    assert set(names) == set(LENGTHS)
    assert {name for name, _ in names} == {*DATA, "tydiqa"}


@pytest.mark.parametrize("name", DATA)
def test_the_prompts_were_counted(name: str, shared: Path) -> None:
    (protocol,) = (protocol for benchmark, protocol in LENGTHS if benchmark == name)
    benchmark = catalog.benchmark(name).under(protocol)
    groups: dict[str, list[str]] = {}
    given = 0
    for item in (items := benchmark.load(benchmark.protocol(protocol), shared / "data" / DATA[name])):
        prompt = benchmark.render(item)
        groups.setdefault(item.group, []).append("".join(turn.content for turn in prompt.turns) + prompt.prefill)
        if isinstance(benchmark, LikelihoodBenchmark) and benchmark.kind == "score":
            given += sum(map(len, benchmark.continuations(item)))
    starts = {group: estimate.common_prefix(texts) for group, texts in groups.items()}
    own = sum(len(text) - starts[group] for group, texts in groups.items() for text in texts)
    lengths = LENGTHS[name, protocol]
    assert len(items) == lengths.items
    assert sum(starts.values()) + own + given == lengths.prompts.value


@pytest.mark.parametrize("name", RUNS)
def test_the_long_answers_were_measured(name: str) -> None:
    run = tulu_eval.load_run(RESULTS / name / RUNS[name])
    tokens = [len(sample.completion.token_ids) for sample in run.samples()]
    (lengths,) = (lengths for (benchmark, _), lengths in LENGTHS.items() if benchmark == name)
    assert round(sum(tokens) / len(tokens)) == lengths.long.value
