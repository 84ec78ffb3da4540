"""Makes a small language model with random weights, a tokenizer trained on given texts, and the Tulu template."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tulu_eval import files
from tulu_eval.models.quiet import without_bars
from tulu_eval.training.text import TEMPLATE

VOCABULARY = 1024
SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 168,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
    "initializer_range": 0.1,
}
"""0.1 million parameters; a CPU core trains them in a minute or two. With transformers' initializer_range of 0.02 so narrow a
model took 800 updates to begin with sums, and 200 with 0.1."""


def write(folder: Path, texts: Iterable[str], seed: int) -> None:
    """Writes a folder, whole or not at all, with a Llama of random weights and a byte-level tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _tokenizer(texts)
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    torch.manual_seed(seed)
    config = LlamaConfig(vocab_size=len(tokenizer), **SHAPE, **ids)
    model = LlamaForCausalLM(config)  # type: ignore[no-untyped-call]
    with files.replacing_folder(folder) as draft:
        with without_bars():
            model.save_pretrained(draft)
        tokenizer.save_pretrained(draft)


def _tokenizer(texts: Iterable[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=False), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    raw.decoder = decoders.ByteLevel()
    special = ["<|begin|>", "<|end|>", "<|pad|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    raw.train_from_iterator(texts, trainer)
    raw.post_processor = processors.TemplateProcessing(
        single=f"{special[0]} $A", special_tokens=[(special[0], raw.token_to_id(special[0]))]
    )
    bos, eos, pad = special
    tokenizer: Any = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=raw, bos_token=bos, eos_token=eos, pad_token=pad
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer
