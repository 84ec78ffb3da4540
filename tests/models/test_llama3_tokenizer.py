"""Llama 3's real tokenizer, from the package llama-models: the published prompts in the tokens that Meta's own code gives."""

from __future__ import annotations

import importlib.util
import itertools
import statistics
from pathlib import Path
from typing import Any

import pytest

from tulu_eval.benchmarks.base import Item
from tulu_eval.benchmarks.gsm8k import GSM8K
from tulu_eval.models.tokenizer import PromptWriter

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("llama_models") is None,
    reason="the package llama-models is not installed: pip install --no-deps llama-models",
)

BOS = "<|begin_of_text|>"


@pytest.fixture(scope="module")
def meta() -> Any:
    """Meta's tokenizer, which reads the same file with tiktoken."""
    from llama_models.llama3.tokenizer import Tokenizer

    return Tokenizer.get_instance()


@pytest.fixture(scope="module")
def writer(meta: Any) -> PromptWriter:
    """A tokenizer of transformers made of that file, which puts one BOS in front as the released ones do."""
    import llama_models
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast
    from transformers.convert_slow_tokenizer import TikTokenConverter

    file = Path(llama_models.__file__).parent / "llama3" / "tokenizer.model"
    special = sorted(meta.special_tokens, key=lambda token: meta.special_tokens[token])
    raw = TikTokenConverter(vocab_file=str(file), pattern=meta.pat_str, extra_special_tokens=special).converted()
    assert all(raw.token_to_id(token) == meta.special_tokens[token] for token in special)
    raw.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, raw.token_to_id(BOS))])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token=BOS, eos_token="<|end_of_text|>")
    return PromptWriter(tokenizer, "llama-3", tulu=True)


@pytest.fixture(scope="module")
def prompts(writer: PromptWriter, shared: Path) -> list[str]:
    benchmark = GSM8K()
    items = benchmark.load(benchmark.protocol("published"), shared / "data/gsm8k/test.jsonl")
    return writer.texts([benchmark.render(item) for item in items], [item.id for item in items])


def test_the_published_prompts_have_the_known_lengths(writer: PromptWriter, prompts: list[str]) -> None:
    rows = writer.encode(prompts, prompts)
    shared_tokens = sum(1 for _ in itertools.takewhile(lambda column: len(set(column)) == 1, zip(*rows, strict=False)))
    assert (len(rows), shared_tokens) == (200, 674)
    assert round(statistics.mean(map(len, rows)), 2) == 739.14


def test_the_ids_are_metas_with_one_bos(writer: PromptWriter, meta: Any, prompts: list[str]) -> None:
    bos = meta.special_tokens[BOS]
    for text, row in zip(prompts, writer.encode(prompts, prompts), strict=True):
        assert list(row) == meta.encode(text, bos=True, eos=False)
        assert (row[0], row.count(bos)) == (bos, 1)


def test_several_turns_end_in_llama_3s_own_token(writer: PromptWriter, meta: Any) -> None:
    benchmark = GSM8K().under("lm-eval-cot")
    (text,) = writer.texts([benchmark.render(Item("x", "How many?", "1"))], ["item"])
    (row,) = writer.encode([text], ["item"])
    assert list(row) == meta.encode(text, bos=True, eos=False, allowed_special="all")
    assert row.count(meta.special_tokens["<|end_of_text|>"]) == 8
