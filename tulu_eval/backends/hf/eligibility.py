"""Decides whether a model can decode with a shared prefix: from its config, then by a trial on a few tokens."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from tulu_eval.backends.hf.shared_prefix import ATTENTION, SharedPrefixDecoder, UnsupportedAttentionError, attention

_LENGTH_DEPENDENT_ROPE = ("dynamic", "longrope")
"""Kinds of rotary embedding whose frequencies depend on the longest row of a forward pass.

Source: transformers, ``modeling_rope_utils``.
"""

TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.15}
"""Largest relative difference of logits between shared-prefix and plain attention, by dtype.

Measured on SmolLM2-135M: 6e-7 in float32, 0.02 in bfloat16; another kind of attention gives 0.5 and more.
"""

_PREFIX, _SUFFIXES = 8, (3, 1, 5)


def enable_shared_prefix(model: Any, max_length: int) -> str:
    """Gives a model the shared-prefix attention; returns why it does not apply and the model is unchanged, empty if it applies.

    ``max_length`` is the largest length of a row in tokens.
    """
    reason = config_reason(model, max_length)
    if not reason and not {"position_ids", "logits_to_keep"} <= set(inspect.signature(model.forward).parameters):
        reason = "the model's forward does not take position_ids and logits_to_keep"
    if reason:
        return reason
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, attention)
    before = model.config._attn_implementation
    expected = _plain_logits(model)
    try:
        model.set_attn_implementation(ATTENTION)
        reason = _difference(model, expected, max_length)
    except UnsupportedAttentionError as error:
        reason = str(error)
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError, KeyError) as error:
        reason = f"the trial failed with {type(error).__name__}: {error}"
    if reason:
        model.set_attn_implementation(before)
    return " ".join(reason.split())


def config_reason(model: Any, max_length: int) -> str:
    """Returns why the config or the class excludes the shared-prefix attention; empty if nothing excludes it."""
    config = model.config.get_text_config()
    if model.config.is_encoder_decoder:
        return "an encoder-decoder model"
    if getattr(model, "_is_stateful", False):
        return "the model keeps a state besides keys and values"
    if not getattr(model, "_supports_attention_backend", False):
        return "the model does not use transformers' attention interface"
    kinds = set(getattr(config, "layer_types", None) or ("full_attention",))
    if other := kinds - {"full_attention", "sliding_attention", "chunked_attention"}:
        return f"layers of kind {', '.join(sorted(other))}"
    restricted = kinds != {"full_attention"} or getattr(config, "layer_types", None) is None
    for name in ("sliding_window", "attention_chunk_size"):
        width = getattr(config, name, None)
        if restricted and isinstance(width, int) and width < max_length and getattr(config, "use_sliding_window", True):
            return f"{name} of {width} tokens is shorter than the longest row, {max_length}"
    kind = rope_depends_on_length(model)
    return f"rotary positions of kind {kind} depend on the longest row" if kind else ""


def rope_depends_on_length(model: Any) -> str:
    """Returns the kind of the rotary embedding if its frequencies depend on the longest row; else empty."""
    rope = str(getattr(model.config.get_text_config(), "rope_parameters", None))
    return next((kind for kind in _LENGTH_DEPENDENT_ROPE if f"'{kind}'" in rope), "")


def _rows(model: Any) -> list[list[int]]:
    """Returns three short rows with a common prefix, with tokens from all of the vocabulary."""
    size = model.get_input_embeddings().weight.shape[0]
    tokens = [(11 + 7919 * index) % size for index in range(_PREFIX + sum(_SUFFIXES) + len(_SUFFIXES))]
    rows, start = [], _PREFIX
    for length in _SUFFIXES:
        rows.append(tokens[:_PREFIX] + tokens[start : start + length + 1])
        start += length + 1
    return rows


@torch.inference_mode()
def _plain_logits(model: Any) -> Tensor:
    """Returns the logits after each row, [rows, vocabulary], from one plain forward pass per row."""
    device = model.get_input_embeddings().weight.device
    return torch.stack(
        [model(input_ids=torch.tensor([row], device=device), use_cache=False).logits[0, -1] for row in _rows(model)]
    )


def _difference(model: Any, expected: Tensor, max_length: int) -> str:
    """Returns how the shared-prefix logits differ from the expected ones; empty if they agree."""
    rows = _rows(model)
    decoder = SharedPrefixDecoder(model, rows[0][:_PREFIX], len(rows), max(_SUFFIXES) + 1, max_length)
    decoder.admit(0, [row[_PREFIX:-1] for row in rows])
    found = decoder.step([row[-1] for row in rows], _SUFFIXES)
    layers = model.config.get_text_config().num_hidden_layers
    if len(decoder.store.own) != layers:
        return f"only {len(decoder.store.own)} of {layers} layers use attention"
    wanted = expected.float()
    spread = (wanted - wanted.mean(dim=-1, keepdim=True)).norm()
    error = float((found.float() - wanted).norm() / spread)
    limit = TOLERANCE.get(expected.dtype, TOLERANCE[torch.float32])
    return "" if error <= limit else f"the trial's logits differ from plain attention by {error:.2g} (limit {limit:g})"
