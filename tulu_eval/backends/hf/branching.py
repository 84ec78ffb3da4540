"""Log-probabilities of branches: prompts that share a prefix, each with several continuations, every token computed once.

Three levels: the prefix, the rest of each prompt, and the continuations. One forward pass computes a level for many rows,
packed as in :mod:`~tulu_eval.backends.hf.shared_prefix`. A layer attends to each level by itself and merges the parts exactly
by their log-sum-exps. No mask has a row's length squared: within a row attention is causal, and a parent is seen whole.

Memory, besides the prefix's: the keys and values of one batch of prompts, and ``positions * vocabulary`` logits.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from tulu_eval.backends.hf.partial_attention import Partial, causal_attention, partial_attention
from tulu_eval.backends.hf.shared_prefix import SharedPrefixDecoder, Store, in_buckets

Tokens = Sequence[int]

LOGIT_ROWS = 64
"""Positions whose log-sum-exp is computed together, so that its temporary numbers stay small."""


def logprobs_at(logits: Tensor, rows: Sequence[int], tokens: Sequence[int]) -> list[float]:
    """Returns the log-probability of each token at its row of ``logits``, [positions, vocabulary], accumulated in float32."""
    sums = torch.cat([part.float().logsumexp(-1) for part in torch.split(logits, LOGIT_ROWS)])
    where = torch.tensor([list(rows), list(tokens)], device=logits.device)
    found: list[float] = (logits[where[0], where[1]].float() - sums[where[0]]).tolist()
    return found


class Rectangle:
    """Packed rows and their places in a rectangle of [rows, width].

    Args:
        lengths: Tokens of each row; some row has at least one.
    """

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        self.rows, self.width = len(lengths), max(lengths)
        places = [row * self.width + at for row, length in enumerate(lengths) for at in range(length)]
        self.places = torch.tensor(places, device=device)

    def spread(self, packed: Tensor, width: int = 0) -> Tensor:
        """Returns [tokens, ...] as [rows, width, ...], zeros behind each row; ``width`` is at least the longest row's."""
        flat = packed.new_zeros(self.rows * self.width, *packed.shape[1:]).index_copy_(0, self.places, packed)
        spread = flat.view(self.rows, self.width, *packed.shape[1:])
        if width <= self.width:
            return spread
        return torch.cat([spread, spread.new_zeros(self.rows, width - self.width, *packed.shape[1:])], dim=1)

    def pack(self, spread: Tensor) -> Tensor:
        """Returns [rows, width, ...] as [tokens, ...]."""
        return spread.reshape(self.rows * self.width, *spread.shape[2:])[self.places]


class LevelPlan:
    """A forward pass of one level's rows.

    Args:
        lengths: Tokens of each row.
        keep: Whether the rows get children, which attend to their keys and values.
    """

    def __init__(self, store: Store, lengths: Sequence[int], keep: bool, device: torch.device) -> None:
        self.store, self.rectangle, self._lengths = store, Rectangle(lengths, device), lengths
        self._keep = keep
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}
        self._parents: LevelPlan | None = None

    def below(self, parents: LevelPlan, first: int, families: Sequence[int]) -> LevelPlan:
        """Makes the rows children of consecutive rows of another level; returns this plan.

        Args:
            parents: The level above, already computed.
            first: The first row's parent.
            families: Tokens of all children of each parent from ``first`` on.
        """
        device = self.rectangle.places.device
        self._parents, self._first, self._family = parents, first, Rectangle(families, device)
        lengths = torch.tensor(parents._lengths[first : first + len(families)], device=device)
        self._unseen = torch.arange(in_buckets(parents.rectangle.width), device=device)[None] >= lengths[:, None]
        return self

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Returns attention to the prefix, the parent and the row itself, [1, tokens, heads, width]."""
        queries, keys, values = (packed[0].transpose(0, 1) for packed in (query, key, value))
        if self._keep:
            width = in_buckets(self.rectangle.width)
            self._kept[layer] = (self.rectangle.spread(keys, width), self.rectangle.spread(values, width))
        grouped = torch.unflatten(queries, 1, (keys.shape[1], -1))
        out, lse = self._own(queries, keys, values, scale)
        for part in self._above(layer, grouped, scale):
            weight = torch.sigmoid(lse - part.lse).to(out.dtype)
            out = torch.lerp(part.out, out, weight.unsqueeze(-1))
            lse = torch.logaddexp(lse, part.lse)
        return out[None]

    def _own(self, queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Partial:
        """Returns causal attention within rows: [tokens, heads, width] and [tokens, heads]."""
        query, key, value = (self.rectangle.spread(packed).transpose(1, 2) for packed in (queries, keys, values))
        group = query.shape[1] // key.shape[1]
        part = causal_attention(query, key.repeat_interleave(group, dim=1), value.repeat_interleave(group, dim=1), scale)
        return Partial(self.rectangle.pack(part.out.transpose(1, 2)), self.rectangle.pack(part.lse.transpose(1, 2)))

    def _above(self, layer: int, grouped: Tensor, scale: float) -> Iterator[Partial]:
        """Yields attention of [tokens, kv_heads, group, width] to the prefix and to the parents, shaped as :meth:`_own`'s."""
        if layer in self.store.prefix:
            whole = Rectangle([len(grouped)], grouped.device)
            yield _folded(whole, grouped, *self.store.prefix[layer], None, scale)
        if self._parents is not None:
            rows = slice(self._first, self._first + self._family.rows)
            keys, values = (kept[rows].transpose(1, 2) for kept in self._parents._kept[layer])
            mask = grouped.new_zeros(self._unseen.shape).masked_fill_(self._unseen, -torch.inf)
            yield _folded(self._family, grouped, keys, values, mask[:, None, None], scale)


def _folded(places: Rectangle, grouped: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float) -> Partial:
    """Returns attention of packed queries to whole rows of keys, the group of heads folded into the queries.

    Args:
        places: The queries' places in [rows, queries].
        grouped: [tokens, kv_heads, group, width].
        key: [rows, kv_heads, keys, width].
        value: [rows, kv_heads, keys, width].
        mask: As for :func:`partial_attention`.
        scale: Factor of the scores.

    Returns:
        Output [tokens, heads, width] and log-sum-exp [tokens, heads].
    """
    kv_heads, group = grouped.shape[1:3]
    folded = places.spread(grouped).permute(0, 2, 1, 3, 4).flatten(2, 3)
    part = partial_attention(folded, key, value, mask, scale)
    split = (places.width, group)
    out = torch.unflatten(part.out, 2, split).permute(0, 2, 1, 3, 4)
    lse = part.lse.reshape(places.rows, kv_heads, *split).permute(0, 2, 1, 3)
    return Partial(places.pack(out).flatten(1, 2), places.pack(lse).flatten(1, 2))


class BranchScorer:
    """Scores branches of prompts that share a prefix.

    Args:
        model: A causal language model with the shared-prefix attention.
        prefix: Tokens with which every prompt starts; may be empty.
        reach: Largest length of a row in tokens.
        tokens: Largest number of continuations' tokens in one forward pass; a longer continuation has its own.
    """

    def __init__(self, model: Any, prefix: Sequence[int], reach: int, tokens: int) -> None:
        self._decoder = SharedPrefixDecoder(model, prefix, 0, 0, reach)
        self._device, self._tokens, self._prefix = model.get_input_embeddings().weight.device, tokens, len(prefix)

    def score(self, prompts: Sequence[Tokens], branches: Sequence[Sequence[Tokens]]) -> list[list[list[float]]]:
        """Returns the log-probability of each token of each continuation of each prompt.

        ``prompts`` are the tokens after the prefix; each prompt and each continuation has at least one token.
        """
        deep = any(len(branch) > 1 for own in branches for branch in own)
        plan = LevelPlan(self._decoder.store, [len(prompt) for prompt in prompts], deep, self._device)
        ends = [total - 1 for total in itertools.accumulate(map(len, prompts))]
        logits = self._forward(prompts, [self._prefix] * len(prompts), plan, torch.tensor(ends, device=self._device))
        firsts = [(row, branch[0]) for row, own in enumerate(branches) for branch in own]
        found = iter(logprobs_at(logits, [row for row, _ in firsts], [token for _, token in firsts]))
        scores = [[[next(found)] for _ in own] for own in branches]
        del logits
        for chunk in self._chunks(branches):
            first = chunk[0][0]
            families = [0] * (chunk[-1][0] - first + 1)
            for row, at in chunk:
                families[row - first] += len(branches[row][at]) - 1
            starts = [self._prefix + len(prompts[row]) for row, _ in chunk]
            texts = [branches[row][at] for row, at in chunk]
            below = LevelPlan(self._decoder.store, [len(text) - 1 for text in texts], False, self._device)
            logits = self._forward([text[:-1] for text in texts], starts, below.below(plan, first, families), 0)
            targets = [token for text in texts for token in text[1:]]
            found = iter(logprobs_at(logits, range(len(targets)), targets))
            for (row, at), text in zip(chunk, texts, strict=True):
                scores[row][at] += itertools.islice(found, len(text) - 1)
        return scores

    def _chunks(self, branches: Sequence[Sequence[Tokens]]) -> Iterator[list[tuple[int, int]]]:
        """Yields the (row, index) of continuations of two tokens or more, in order, for one forward pass each."""
        chunk: list[tuple[int, int]] = []
        tokens = 0
        for row, own in enumerate(branches):
            for at, branch in enumerate(own):
                if len(branch) == 1:
                    continue
                if chunk and tokens + len(branch) - 1 > self._tokens:
                    yield chunk
                    chunk, tokens = [], 0
                chunk.append((row, at))
                tokens += len(branch) - 1
        if chunk:
            yield chunk

    def _forward(self, rows: Sequence[Tokens], starts: Sequence[int], plan: LevelPlan, keep: Tensor | int) -> Tensor:
        """Runs the model on rows whose first tokens have the positions ``starts``; returns the logits that ``keep`` names."""
        tokens = [token for row in rows for token in row]
        positions = [start + at for row, start in zip(rows, starts, strict=True) for at in range(len(row))]
        packed = torch.tensor([tokens, positions], device=self._device)
        return self._decoder.forward(packed[0], packed[1], plan, keep)
