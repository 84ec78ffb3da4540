"""Forward passes without padding: one sequence holds all rows, each with its own positions and attending only to itself.

The module uses transformers' attention interface, like the shared prefix of the evaluation backend. Attention works per row,
never over the whole sequence: on a CUDA device in half precision by PyTorch's variable-length flash attention, else by one
fused call per row length. :func:`enable` tries on a few tokens whether a model can be packed.
"""

from __future__ import annotations

import dataclasses
import functools
import heapq
import inspect
import itertools
import logging
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tulu_eval.backends.hf.eligibility import TOLERANCE, config_reason
from tulu_eval.backends.hf.shared_prefix import REFUSED

_LOG = logging.getLogger(__name__)

ATTENTION = "tulu_eval_packed"
"""Name of the attention function in transformers' registry."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Packing:
    """The order of a [rows, tokens] batch's tokens in one sequence, with the longest row first.

    Attributes:
        places: [packed tokens], the index of each token in the flattened batch.
        positions: [packed tokens], the index of each token in its row.
        lengths: Lengths of the rows in the order of the sequence, without empty rows.
        bounds: [rows + 1], int32, the start of each row, and the end of the last.
    """

    places: Tensor
    positions: Tensor
    lengths: tuple[int, ...]
    bounds: Tensor

    @classmethod
    def of(cls, lengths: Tensor, width: int) -> Packing:
        """Returns the packing of rows of these lengths in a batch of ``width`` tokens."""
        found: list[int] = lengths.tolist()
        order = sorted((row for row, length in enumerate(found) if length), key=lambda row: -found[row])
        ordered = [found[row] for row in order]
        longest = torch.arange(max(ordered, default=0))
        positions = torch.cat([longest[:length] for length in ordered]) if ordered else longest
        starts = torch.repeat_interleave(
            torch.tensor(order, dtype=torch.int64) * width, torch.tensor(ordered, dtype=torch.int64)
        )
        bounds = torch.tensor([0, *itertools.accumulate(ordered)], dtype=torch.int32)
        device = lengths.device
        return cls((starts + positions).to(device), positions.to(device), tuple(ordered), bounds.to(device))


def spread(x: Tensor, places: Tensor, rows: int, width: int) -> Tensor:
    """Returns [rows, width] with numbers [n] at places of the flattened tensor, else 0; no view, because FSDP hooks it."""
    return x.new_zeros(rows, width).index_put((places // width, places % width), x)


def parts_needed(lengths: Sequence[int], budget: int) -> int:
    """Returns the smallest number of parts for :func:`cut` with at most ``budget`` tokens each, or one longer row."""
    allowed = max(budget, *lengths)
    for parts in range(-(-sum(lengths) // allowed), len(lengths)):
        if max(sum(lengths[place] for place in part) for part in cut(lengths, parts)) <= allowed:
            return parts
    return len(lengths)


def cut(lengths: Sequence[int], parts: int) -> list[list[int]]:
    """Returns the places of the rows of each part; all parts have about the same number of tokens."""
    found: list[list[int]] = [[] for _ in range(parts)]
    tokens = [(0, part) for part in range(parts)]
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        held, part = heapq.heappop(tokens)
        found[part].append(place)
        heapq.heappush(tokens, (held + lengths[place], part))
    return [sorted(part) for part in found]


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    packing: Packing | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """The function of :data:`ATTENTION`: causal in each row of a packed sequence; PyTorch's own without a packing.

    Raises:
        ValueError: If the model needs another attention than causal softmax attention.
    """
    if packing is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        out: Tensor = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)[0]
        return out, None
    for name in REFUSED:
        if options.get(name) is not None:
            raise ValueError(f"the attention uses {name}")
    if query.is_cuda and query.dtype in (torch.float16, torch.bfloat16):
        return _varlen(query, key, value, packing, scaling), None
    return _by_length(query, key, value, packing, scaling), None


def _varlen(query: Tensor, key: Tensor, value: Tensor, packing: Packing, scale: float | None) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    grouped: dict[str, Any] = {}
    if key.shape[1] != query.shape[1]:
        if _varlen_groups():
            grouped = {"enable_gqa": True}
        else:
            key, value = (x.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for x in (key, value))
    longest = packing.lengths[0]
    out: Any = varlen_attn(
        query[0].transpose(0, 1), key[0].transpose(0, 1), value[0].transpose(0, 1),
        packing.bounds, packing.bounds, longest, longest, scale=scale, window_size=(-1, 0), **grouped,
    )  # fmt: skip
    packed: Tensor = out[None]
    return packed


@functools.cache
def _varlen_groups() -> bool:
    """Whether PyTorch's variable-length attention allows fewer heads of keys than of queries; torch 2.11's does not."""
    from torch.nn.attention.varlen import varlen_attn

    return "enable_gqa" in inspect.signature(varlen_attn).parameters


def _by_length(query: Tensor, key: Tensor, value: Tensor, packing: Packing, scale: float | None) -> Tensor:
    """Returns [1, packed tokens, heads, width]; calls the fused attention once per row length, as rows are sorted by length."""
    groups = [(length, len(list(equal))) for length, equal in itertools.groupby(packing.lengths)]
    # Split, not sliced: the gradient of each slice would be as large as the whole sequence.
    sizes = [length * rows for length, rows in groups]
    parts = zip(*(torch.split(x[0], sizes, dim=1) for x in (query, key, value)), strict=True)
    outs = []
    for (length, rows), part in zip(groups, parts, strict=True):
        q, k, v = (x.reshape(x.shape[0], rows, length, -1).transpose(0, 1) for x in part)
        out = functional.scaled_dot_product_attention(
            q, k, v, is_causal=True, scale=scale, enable_gqa=key.shape[1] != query.shape[1]
        )
        outs.append(out.transpose(1, 2).flatten(0, 1))
    return torch.cat(outs)[None]


def packed_arguments(ids: Tensor, packing: Packing) -> dict[str, Any]:
    """Returns the arguments of a forward pass over the packed tokens of ``ids`` [rows, tokens]."""
    return {
        "input_ids": ids.flatten()[packing.places][None],
        "position_ids": packing.positions[None],
        # With four dimensions transformers builds no mask of its own, which would have the size of the sequence squared.
        "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool, device=ids.device),
        "use_cache": False,
        "packing": packing,
    }


def enable(model: Any) -> bool:
    """Sets a model's attention to the packed one if it computes the same; returns whether it did."""
    reason = config_reason(model, sys.maxsize)
    if not reason:
        reason = _tried(model)
    if reason:
        _LOG.info("forward passes are padded: %s", " ".join(reason.split()))
    return not reason


@torch.no_grad()
def _tried(model: Any) -> str:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(ATTENTION, attention)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)
    size = model.get_input_embeddings().weight.shape[0]
    before, base, device = model.config._attn_implementation, model.base_model, next(model.parameters()).device
    rows = [index * 7919 % size for index in range(1, 5)], [index * 104729 % size for index in range(5, 9)]
    ids = torch.tensor(rows, device=device)
    lengths = (4, 2)
    expected = _counted(base(input_ids=ids, use_cache=False).last_hidden_state, lengths)
    try:
        model.set_attn_implementation(ATTENTION)
        packing = Packing.of(torch.tensor(lengths, device=device), 4)
        found = base(**packed_arguments(ids, packing)).last_hidden_state[0]
        error = float((found.float() - expected).norm() / expected.norm())
        limit = TOLERANCE.get(found.dtype, TOLERANCE[torch.float32])
        reason = "" if error <= limit else f"packed rows differ by {error:.2g} from padded ones"
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError, KeyError) as error:
        reason = f"the trial failed with {type(error).__name__}: {error}"
    if reason:
        model.set_attn_implementation(before)
    return reason


def _counted(hidden: Tensor, lengths: Sequence[int]) -> Tensor:
    return torch.cat([row[:length] for row, length in zip(hidden, lengths, strict=True)]).float()
