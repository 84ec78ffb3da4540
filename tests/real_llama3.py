"""Llama 3's real vocabulary, from the package llama-models, as a tokenizer of the package tokenizers."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BOS = "<|begin_of_text|>"

needed = pytest.mark.skipif(
    importlib.util.find_spec("llama_models") is None,
    reason="the package llama-models is not installed: pip install --no-deps llama-models",
)


def metas() -> Any:
    """Returns Meta's own tokenizer, which reads the same file with tiktoken."""
    from llama_models.llama3.tokenizer import Tokenizer

    return Tokenizer.get_instance()


def converted() -> Tokenizer:
    """Returns the tokenizer of that file, which puts one BOS in front as the released ones do."""
    import llama_models
    from tokenizers import processors
    from transformers.convert_slow_tokenizer import TikTokenConverter

    meta = metas()
    file = Path(llama_models.__file__).parent / "llama3" / "tokenizer.model"
    special = sorted(meta.special_tokens, key=lambda token: meta.special_tokens[token])
    raw = TikTokenConverter(vocab_file=str(file), pattern=meta.pat_str, extra_special_tokens=special).converted()
    assert all(raw.token_to_id(token) == meta.special_tokens[token] for token in special)
    raw.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, raw.token_to_id(BOS))])
    found: Tokenizer = raw
    return found
