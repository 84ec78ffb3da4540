"""Decoding with one shared prefix: its keys and values are stored once, and all rows attend to them in one product.

All prompts of a benchmark like 8-shot GSM8K start with the same tokens. Plain batched decoding stores these tokens' keys and
values once per row and reads them once per row at every step. This module stores them once. The tokens after the prefix, a
row's *own* part, are in a slot of a preallocated buffer. Each layer attends twice, to the prefix (one product for all rows) and
to the own part (batched over rows), and merges both exactly by their log-sum-exps :math:`L_p, L_o`:
``out = out_p + sigmoid(L_o - L_p) * (out_o - out_p)``.

Rows are *packed*: a forward pass sees one sequence of all new tokens, ``[1, tokens]``, with explicit positions, so prompts of
different lengths need no padding in the linear layers. The module reaches the model through the attention interface of
transformers, without a cache object: the attention function stores keys and values itself.

Memory, with ``L`` layers, ``K`` key-value heads of width ``D``, ``b`` bytes per number (an 8B Llama-3: 32, 8, 128, 2):

* the prefix: ``2 L K D b`` bytes per token, once (128 KiB; 742 tokens: 93 MiB);
* the own parts: ``2 L K D b`` bytes per token and slot (256 rows of 200 + 512 tokens: 22 GiB);
* one layer's scores against the prefix, without a fused kernel: ``4 heads tokens prefix`` bytes (4096 packed prompt tokens:
  371 MiB).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import Tensor, nn

from tulu_eval.backends.hf.partial_attention import Partial, partial_attention

ATTENTION = "tulu_eval_shared_prefix"
"""Name of the attention function in transformers' registry."""

BUCKET = 32
"""Number of tokens by which the visible part of the own buffers grows, so that kernels see few different shapes, and the rows
of masks start at addresses that the CUDA kernel accepts."""

REFUSED = ("softcap", "s_aux", "sinks", "position_bias", "head_mask")
"""Arguments of attention functions that change the scores in a way that this module does not implement."""


class UnsupportedAttentionError(Exception):
    """The model's attention is not plain causal softmax attention; the message gives the difference."""


def in_buckets(tokens: int) -> int:
    """Returns a number of tokens, rounded up to a multiple of :data:`BUCKET`."""
    return -(-tokens // BUCKET) * BUCKET


class AttentionPlan(Protocol):
    """A forward pass: which tokens it has, and to what they attend."""

    store: Store

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Returns a layer's attention, [1, tokens, heads, width], from the same shapes as :func:`attention`."""
        ...


class PrefixPlan:
    """A forward pass that encodes the prefix."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Stores keys and values; returns causal attention, [1, tokens, heads, width]."""
        self.store.prefix[layer] = (key.contiguous(), value.contiguous())
        group = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(group, dim=1), value.repeat_interleave(group, dim=1)
        return F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale).transpose(1, 2)


class RowsPlan:
    """A forward pass of new tokens of rows, after the prefix.

    Args:
        rows: The slots of the packed tokens.
        places: For every packed token, ``slot * capacity + position`` in the own buffers. [tokens]
        mask: Added to the scores of the own part: [rows, 1, 1, keys] for one token per row, else [queries, keys].
        padded: For every packed token, its index in a [rows, queries] rectangle; ``None`` for one token per row. [tokens]
    """

    def __init__(self, store: Store, rows: slice, places: Tensor, mask: Tensor, padded: Tensor | None = None) -> None:
        self.store, self.rows, self.places, self.mask, self.padded = store, rows, places, mask, padded

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Stores keys and values; returns attention to the prefix and the own part, [1, tokens, heads, width]."""
        tokens, heads, width = query.shape[2], query.shape[1], query.shape[3]
        split = (key.shape[1], heads // key.shape[1])
        grouped = query[0].transpose(0, 1).reshape(tokens, *split, width)
        out, lse = self._own(layer, grouped, key, value, scale)
        if layer in self.store.prefix:
            folded = grouped.transpose(0, 1).reshape(1, split[0], -1, width)
            part = partial_attention(folded, *self.store.prefix[layer], None, scale)
            shared = part.out.reshape(split[0], tokens, split[1], width).transpose(0, 1)
            weight = torch.sigmoid(lse - part.lse.reshape(split[0], tokens, split[1]).transpose(0, 1)).to(out.dtype)
            out = torch.lerp(shared, out, weight.unsqueeze(-1))
        return out.reshape(1, tokens, heads, width)

    def _own(self, layer: int, grouped: Tensor, key: Tensor, value: Tensor, scale: float) -> Partial:
        """Returns attention over own parts: output [tokens, kv_heads, group, width], log-sum-exp [tokens, kv_heads, group]."""
        keys, values = self.store.write(layer, self.places, key[0].transpose(0, 1), value[0].transpose(0, 1))
        visible = self.mask.shape[-1]
        keys = keys[self.rows, :visible].transpose(1, 2)
        values = values[self.rows, :visible].transpose(1, 2)
        if self.padded is None:
            return partial_attention(grouped, keys, values, self.mask, scale)
        _, kv_heads, group, width = grouped.shape
        rows, queries = keys.shape[0], self.mask.shape[0]
        rectangle = grouped.new_zeros(rows * queries, kv_heads, group, width).index_copy_(0, self.padded, grouped)
        folded = rectangle.view(rows, queries, kv_heads, group, width).permute(0, 2, 3, 1, 4)
        folded = folded.reshape(rows, kv_heads, group * queries, width)
        part = partial_attention(folded, keys, values, self.mask.repeat(group, 1)[None, None], scale)
        out = part.out.reshape(rows, kv_heads, group, queries, width).permute(0, 3, 1, 2, 4)
        lse = part.lse.reshape(rows, kv_heads, group, queries).permute(0, 3, 1, 2)
        flat = (rows * queries, kv_heads, group)
        return Partial(out.reshape(*flat, width)[self.padded], lse.reshape(flat)[self.padded])


class Store:
    """Keys and values: the prefix once, and ``slots`` rows of ``capacity`` own tokens, allocated at the first write.

    Args:
        slots: Number of rows that can be decoded together.
        capacity: Largest own part in tokens; rounded up to a multiple of :data:`BUCKET`.
        reach: Largest row in tokens, including the prefix; a sliding window of at least this length has no effect.
    """

    def __init__(self, slots: int, capacity: int, reach: int) -> None:
        self.slots, self.capacity, self.reach = slots, in_buckets(capacity), reach
        self.prefix: dict[int, tuple[Tensor, Tensor]] = {}
        self.own: dict[int, tuple[Tensor, Tensor]] = {}

    def write(self, layer: int, places: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Writes [tokens, kv_heads, width] at ``places``; returns the layer's buffers [slots, capacity, kv_heads, width]."""
        if layer not in self.own:
            # Zeros, because masked numbers are still multiplied (by zero) and must be finite.
            shape = (self.slots, self.capacity, *key.shape[1:])
            self.own[layer] = (key.new_zeros(shape), value.new_zeros(shape))
        keys, values = self.own[layer]
        keys.view(-1, *key.shape[1:]).index_copy_(0, places, key)
        values.view(-1, *value.shape[1:]).index_copy_(0, places, value)
        return keys, values

    @torch.inference_mode()
    def move(self, source: int, target: int, length: int) -> None:
        """Copies the first ``length`` own tokens of one slot to another."""
        for buffers in self.own.values():
            for buffer in buffers:
                buffer[target, :length] = buffer[source, :length]

    @torch.inference_mode()
    def wipe(self, slot: int) -> None:
        """Zeroes a slot that may hold numbers that are not finite."""
        for buffers in self.own.values():
            for buffer in buffers:
                buffer[slot].zero_()

    @torch.inference_mode()
    def shrink(self, slots: int) -> None:
        """Keeps the first ``slots`` slots; copies one layer at a time, so that it needs little more memory."""
        self.slots = slots
        for layer, (keys, values) in self.own.items():
            self.own[layer] = (keys[:slots].clone(), values[:slots].clone())


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    tulu_plan: AttentionPlan | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Computes the attention named :data:`ATTENTION`, with the plan that the model passes on.

    Args:
        module: The model's attention module, which knows its layer.
        query: [1, heads, tokens, width].
        key: [1, kv_heads, tokens, width].
        value: [1, kv_heads, tokens, width].
        attention_mask: Must be ``None``.
        scaling: Factor of the scores; ``None`` for ``1 / sqrt(width)``.
        tulu_plan: The forward pass to which the tokens belong.
        options: Other arguments from the model; those in ``REFUSED`` must be absent.

    Raises:
        UnsupportedAttentionError: If the model asks for anything but causal softmax attention.
    """
    if tulu_plan is None:
        raise UnsupportedAttentionError("the model does not hand keyword arguments to its attention")
    if attention_mask is not None:
        raise UnsupportedAttentionError("the model adds a mask of its own to the scores")
    for name in REFUSED:
        if options.get(name) is not None:
            raise UnsupportedAttentionError(f"the attention uses {name}")
    window = options.get("sliding_window")
    if window is not None and window < tulu_plan.store.reach:
        raise UnsupportedAttentionError(f"the attention has a sliding window of {window} tokens")
    if key.shape[-1] != value.shape[-1]:
        raise UnsupportedAttentionError("keys and values differ in width")
    scale = scaling if scaling is not None else 1 / math.sqrt(query.shape[-1])
    return tulu_plan.attend(_layer_of(module), query, key, value, scale), None


def _layer_of(module: nn.Module) -> int:
    layer = getattr(module, "layer_idx", None)
    if not isinstance(layer, int):
        raise UnsupportedAttentionError("attention modules do not know their layer")
    return layer


class SharedPrefixDecoder:
    """Prefills and decodes rows in slots ``0 .. n-1``, with a model whose attention is :data:`ATTENTION`.

    Args:
        prefix: Tokens with which every row starts; may be empty.
        slots: Number of rows that can be decoded together.
        capacity: Largest own part in tokens: the prompt after the prefix, and new tokens.
        reach: Largest row in tokens, including the prefix; 0 for the prefix's length plus ``capacity``.
    """

    def __init__(self, model: Any, prefix: Sequence[int], slots: int, capacity: int, reach: int = 0) -> None:
        self._model = model
        self._device = model.get_input_embeddings().weight.device
        self._dtype = model.get_input_embeddings().weight.dtype
        self._prefix = len(prefix)
        self.store = Store(slots, capacity, reach or len(prefix) + capacity)
        if prefix:
            tokens = torch.tensor(list(prefix), device=self._device)
            self.forward(tokens, torch.arange(len(prefix), device=self._device), PrefixPlan(self.store), tokens.new_zeros(1))

    def forward(self, tokens: Tensor, positions: Tensor, plan: AttentionPlan, keep: Tensor | int) -> Tensor:
        """Runs the model on packed ``tokens``, [tokens]; returns logits, [kept, vocabulary].

        ``positions`` [tokens] are those in the rows, the prefix included. ``keep`` has the indexes of the tokens whose logits
        are computed; 0 for all.
        """
        with torch.inference_mode():
            output = self._model(
                input_ids=tokens[None], position_ids=positions[None], use_cache=False, logits_to_keep=keep, tulu_plan=plan
            )
        logits: Tensor = output.logits[0]
        return logits

    def admit(self, start: int, suffixes: Sequence[Sequence[int]]) -> Tensor:
        """Prefills rows into slots from ``start`` on; returns the logits after each row's last token, [rows, vocabulary]."""
        longest = max(map(len, suffixes))
        tokens = [token for suffix in suffixes for token in suffix]
        inner = [position for suffix in suffixes for position in range(len(suffix))]
        row = [index for index, suffix in enumerate(suffixes) for _ in suffix]
        places = [(start + index) * self.store.capacity + position for index, position in zip(row, inner, strict=True)]
        padded = [index * longest + position for index, position in zip(row, inner, strict=True)]
        ends, last = [], -1
        for suffix in suffixes:
            last += len(suffix)
            ends.append(last)
        packed = torch.tensor([tokens, inner, places, padded], device=self._device)
        mask = torch.full((longest, in_buckets(longest)), -torch.inf, dtype=self._dtype, device=self._device).triu(1)
        plan = RowsPlan(self.store, slice(start, start + len(suffixes)), packed[2], mask, packed[3])
        return self.forward(packed[0], packed[1] + self._prefix, plan, torch.tensor(ends, device=self._device))

    def step(self, tokens: Sequence[int], lengths: Sequence[int]) -> Tensor:
        """Decodes one token per row; returns logits of the next token, [rows, vocabulary].

        ``tokens`` has the newest token of each row in slots ``0 .. n-1``, ``lengths`` its number of stored own tokens.
        """
        places = [slot * self.store.capacity + length for slot, length in enumerate(lengths)]
        packed = torch.tensor([tokens, lengths, places], device=self._device)
        visible = in_buckets(max(lengths) + 1)
        unseen = torch.arange(visible, device=self._device)[None] > packed[1][:, None]
        mask = torch.zeros(unseen.shape, dtype=self._dtype, device=self._device).masked_fill_(unseen, -torch.inf)
        plan = RowsPlan(self.store, slice(0, len(tokens)), packed[2], mask[:, None, None])
        return self.forward(packed[0], packed[1] + self._prefix, plan, 0)
