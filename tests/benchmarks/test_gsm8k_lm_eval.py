"""GSM8K's protocol ``lm-eval-cot`` beside lm-eval itself: the same model gives the same prompts, texts and scores."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tulu_eval.benchmarks.gsm8k import GSM8K
from tulu_eval.benchmarks.gsm8k_exemplars import source
from tulu_eval.benchmarks.gsm8k_lm_eval import LM_EVAL_COT, LmEvalGSM8K
from tulu_eval.benchmarks.gsm8k_scorers import grade_flexible_extract, grade_strict_match

BENCHMARK = LmEvalGSM8K()


@pytest.fixture(scope="module")
def parity() -> Any:
    """The script ``benchmarks/lm_eval_parity.py``."""
    path = Path(__file__).parents[2] / "benchmarks" / "lm_eval_parity.py"
    spec = importlib.util.spec_from_file_location("lm_eval_parity", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["lm_eval_parity"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def parrot(llama3_like: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that learned the examples, so that it answers in their form, ends at ``Q:``, and is quick."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer: Any = AutoTokenizer.from_pretrained(llama3_like)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=4096, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    row = torch.tensor([tokenizer(BENCHMARK.constant_prompt())["input_ids"]])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(120):
        model(input_ids=row, labels=row).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    folder = tmp_path_factory.mktemp("parrot")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("chat", "items"), [(False, 100), (True, 30)])
def test_lm_eval_gives_the_same_prompts_texts_and_scores(
    parity: Any, parrot: Path, shared: Path, tmp_path: Path, chat: bool, items: int
) -> None:
    model = tmp_path / "model"
    shutil.copytree(parrot, model)
    if not chat:
        (model / "chat_template.jinja").unlink()
    found = parity.compare(str(model), shared / "data/gsm8k/test.jsonl", items, tmp_path / "results", batch=items)
    same = {"strict-match": items, "flexible-extract": items}
    assert (found.items, found.prompts, found.texts, found.scores) == (items, items, items, same), found.apart[:1]
    assert found.ours == pytest.approx(found.theirs)
    assert json.loads(json.dumps(dataclasses.asdict(found)))["scores"] == same, "what the script writes"
    assert found.read >= items / 5, "too few answers in the form that the filter reads make the comparison empty"


def test_the_settings_are_those_of_the_package() -> None:
    config = yaml.safe_load(source().read_text())
    assert LM_EVAL_COT.decoding == LM_EVAL_COT.plain_decoding
    assert list(LM_EVAL_COT.decoding.stop) == config["generation_kwargs"]["until"]
    assert LM_EVAL_COT.decoding.greedy
    assert not config["generation_kwargs"]["do_sample"]
    assert config["num_fewshot"] == 8
    assert isinstance(GSM8K().under("lm-eval-cot"), LmEvalGSM8K)


def test_one_item_in_both_forms(shared: Path) -> None:
    items = BENCHMARK.load(LM_EVAL_COT, shared / "data/gsm8k/test.jsonl")
    assert [item.id for item in items[:2]] == ["test-0", "test-1"]
    prompt = BENCHMARK.render(items[0])
    assert [turn.role for turn in prompt.turns] == ["user", "assistant"] * 8 + ["user"]
    assert prompt.turns[0].content.endswith("plant today?\nA:")
    assert prompt.turns[1].content.startswith("There are 15 trees originally.")
    assert prompt.turns[-1].content == f"Q: {items[0].question}\nA:"
    assert prompt.plain == BENCHMARK.constant_prompt() + prompt.user


PIECES = ["The answer is ", "#### ", "-", "$", "1", "23", ",", ".", " ", "\n", "a", "€", "The answer is 1,234.", "is -5"]


@pytest.mark.filterwarnings("ignore")
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), st.sampled_from(["1", "1,234", "-5", "23", "2.5"]))
def test_the_filters_and_the_metric_are_lm_evals(text: str, gold: str) -> None:
    from lm_eval.api.metrics import exact_match_hf_evaluate
    from lm_eval.filters.extraction import RegexFilter

    config = yaml.safe_load(source().read_text())
    target = gold.replace(",", "")
    graded = {grade.scorer: grade for grade in (grade_strict_match(target, text), grade_flexible_extract(target, text))}
    (metric,) = config["metric_list"]
    for filters in config["filter_list"]:
        settings = {name: value for name, value in filters["filter"][0].items() if name != "function"}
        ((read,),) = RegexFilter(**settings).apply([[text]], [{}])
        score = exact_match_hf_evaluate(
            [read], [gold], metric["regexes_to_ignore"], metric["ignore_case"], metric["ignore_punctuation"]
        )
        assert graded[filters["name"]].score == score["exact_match"]
        assert graded[filters["name"]].answered == (read != "[invalid]")


def test_the_right_answers_are_those_that_the_metric_compares(shared: Path) -> None:
    data = shared / "data/gsm8k/test.jsonl"
    rows = [json.loads(line)["answer"] for line in data.read_text().splitlines()]
    for item, row in zip(BENCHMARK.load(LM_EVAL_COT, data), rows, strict=True):
        assert item.target == row.split("####")[-1].strip().replace(",", "").replace("$", "").removesuffix(".")
    assert dataclasses.asdict(LM_EVAL_COT)["n"] == len(rows)
