"""Fixtures that every room uses: the shared real data and the real small model."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

# One thread a process: with two, a tiny model's every operation waits for the slower core, which on a busy machine is 20 times
# slower (measured). Tests of a real model ask for more themselves.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real data; skips where it is absent, which in CI is a failure."""
    folder = Path(os.environ.get("TULU_EVAL_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        if os.environ.get("TULU_EVAL_REQUIRE_SHARED") == "1":
            pytest.fail(f"{folder} is required here and absent")
        pytest.skip(f"no shared data at {folder}; set TULU_EVAL_SHARED")
    return folder


TULU_TEMPLATE = (
    "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] }}\n"
    "{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
)


@pytest.fixture(scope="session")
def llama3_like(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama whose tokenizer is built like Llama 3's: byte-level, the tokenizer adds BOS, Tulu template.

    Its ``generation_config`` has the defects of the released checkpoints: a wrong EOS, and sampling switched on.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    raw.train_from_iterator([_prose()], trainer)
    bos = raw.token_to_id("<|begin_of_text|>")
    raw.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", bos)]
    )
    return _tiny_model(tmp_path_factory.mktemp("llama3-like"), raw, bos="<|begin_of_text|>", eos="<|end_of_text|>")


@pytest.fixture(scope="session")
def llama2_like(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama whose tokenizer is built like Llama 2's: SentencePiece-like BPE with byte fallback, BOS added."""
    from tokenizers import Tokenizer, decoders, models, normalizers, processors, trainers

    alphabet = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    learner = Tokenizer(models.BPE(unk_token="<unk>"))
    learner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    learner.train_from_iterator([_prose()], trainers.BpeTrainer(vocab_size=700, special_tokens=alphabet, show_progress=False))
    learned = json.loads(learner.to_str())["model"]
    merges = [tuple(merge) for merge in learned["merges"]]
    raw = Tokenizer(models.BPE(vocab=learned["vocab"], merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    raw.normalizer = learner.normalizer
    raw.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", raw.token_to_id("<s>"))])
    return _tiny_model(tmp_path_factory.mktemp("llama2-like"), raw, bos="<s>", eos="</s>", unk_token="<unk>")


def _prose() -> str:
    from tulu_eval.benchmarks.gsm8k import few_shot_prefix

    return few_shot_prefix() + "<|user|>\n<|assistant|>\nSo the answer is 0123456789."


def _tiny_model(folder: Path, raw: Any, *, bos: str, eos: str, **more: str) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token=bos, eos_token=eos, pad_token=eos, **more)
    tokenizer.chat_template = TULU_TEMPLATE
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=2048, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, initializer_range=0.3,
    )  # fmt: skip
    model = LlamaForCausalLM(config).to(torch.float32)
    model.save_pretrained(folder)
    wrong = {"bos_token_id": 1, "eos_token_id": 40, "do_sample": True, "temperature": 5.0, "top_k": 2}
    (folder / "generation_config.json").write_text(json.dumps(wrong))
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A JSON-lines file of the form of GSM8K with twelve made-up rows, for ``--protocol custom``."""
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    lines = [
        {"question": f"Ann has {n} pens and buys {n + 1} more. How many has she?", "answer": f"{n}+{n + 1}\n#### {2 * n + 1}"}
        for n in range(12)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path
