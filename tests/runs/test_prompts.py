"""The prompts of a run come back to the byte, or a line says why not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tulu_eval.errors import UserError
from tulu_eval.registry import load_suite
from tulu_eval.runs.order import Order
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.prompts import PromptSource
from tulu_eval.runs.reading import read_run
from tulu_eval.runs.run_plan import make_plan
from tulu_eval.runs.runner import execute


def test_the_prompts_of_a_real_run_are_proven_by_their_hashes(order: Order, rows: Path) -> None:
    plan = make_plan(order, load_suite())
    run = read_run(execute(plan, Progress(quiet=True)).folder)
    found = PromptSource({"gsm8k": rows}).prompts(run, list(run.samples()))
    assert found.proven
    assert found.before.startswith("<|user|>\nAnswer the following questions.\n\nQuestion: There are 15 trees")
    assert found.after == "\n<|assistant|>\nAnswer:"
    assert found.questions["row-3"] == "Ann has 3 pens and buys 4 more. How many has she?"
    for one in plan.planned:
        assert found.before + found.questions[one.item.id] + found.after == one.request.text


def test_other_items_are_refused(order: Order, rows: Path, tmp_path: Path) -> None:
    run = read_run(execute(make_plan(order, load_suite()), Progress(quiet=True)).folder)
    samples = list(run.samples())
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    other = tmp_path / "other.jsonl"
    other.write_text("".join(json.dumps({**line, "answer": "#### 7"}) + "\n" for line in lines))
    with pytest.raises(UserError, match="the items at hand are not those of custom-"):
        PromptSource({"gsm8k": other}).prompts(run, samples)
    other.write_text("".join(json.dumps({**line, "question": line["question"].lower()}) + "\n" for line in lines))
    with pytest.raises(UserError, match="give other prompts than custom-"):
        PromptSource({"gsm8k": other}).prompts(run, samples)


def test_a_models_own_template_is_not_known(make_run: Callable[..., Path], shared: Path) -> None:
    data = shared / "data/gsm8k/test.jsonl"
    targets = [json.loads(line)["answer"].split("####")[1].strip().replace(",", "") for line in data.read_text().splitlines()]
    run = read_run(make_run(form="chat", limit=4))
    samples = list(run.samples())
    with pytest.raises(UserError, match="not those of"):
        PromptSource({"gsm8k": data}).prompts(run, samples)
    import dataclasses

    real = [dataclasses.replace(sample, target=targets[int(sample.item.removeprefix("test-"))]) for sample in samples]
    found = PromptSource({"gsm8k": data}).prompts(run, real)
    assert not found.proven
    assert found.after == ""
    assert found.prefill == "Answer:"


def test_a_failing_source_is_asked_once(make_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load(*_: object) -> None:
        asked.append(1)
        raise UserError("the hub is unreachable")

    monkeypatch.setattr("tulu_eval.benchmarks.gsm8k.GSM8K.load", load)
    run = read_run(make_run(limit=4))
    source = PromptSource({})
    for _ in range(3):
        with pytest.raises(UserError, match="the hub is unreachable"):
            source.prompts(run, list(run.samples()))
    assert len(asked) == 1
