"""The models: what they take and give, and how they are loaded. Nothing here knows a stage.

Rows stand at the left of a batch and are filled up at the right. The filling goes through no model: what is computed is one
sequence of all rows' tokens (:mod:`~tulu_eval.training.packing`), and for log-probabilities the logits of a whole batch are
never there at once. A model that cannot be packed computes the filling too, without an effect, since in a causal model no
token sees what is behind it. Masks come from lengths, never from token ids; a padding token that is also the end token does no
harm.

Log-probabilities and values are aligned with the tokens: column t is about token t, given those before it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from tulu_eval.training.formulas import head_logprobs, token_logprobs, wide
from tulu_eval.training.packing import Packing, packed_arguments, spread
from tulu_eval.training.packing import enable as enable_packing
from tulu_eval.training.text import Tokens


class Batch(NamedTuple):
    """Rows of tokens as tensors.

    Attributes:
        ids: [rows, tokens], int64; 0 behind a row's end.
        lengths: [rows], int64.
        mask: [rows, tokens], bool: the tokens that count.
    """

    ids: Tensor
    lengths: Tensor
    mask: Tensor


def collate(rows: Sequence[Tokens], device: torch.device) -> Batch:
    """Returns rows as one batch."""
    longest = max(map(len, rows))
    ids = torch.zeros(len(rows), longest, dtype=torch.int64)
    mask = torch.zeros(len(rows), longest, dtype=torch.bool)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.from_numpy(row.ids)
        mask[index, : len(row)] = torch.from_numpy(row.mask)
    lengths = torch.tensor([len(row) for row in rows])
    return Batch(ids.to(device), lengths.to(device), mask.to(device))


def responses(x: Tensor, batch: Batch) -> Tensor:
    """Returns the columns [rows, longest response] of x [rows, tokens] at which each row's mask begins; junk behind its end."""
    first = batch.mask.int().argmax(1)
    columns = first.unsqueeze(1) + torch.arange(int(batch.mask.sum(1).max()), device=x.device)
    return x.gather(1, columns.clamp(max=x.shape[1] - 1))


def response_mask(batch: Batch) -> Tensor:
    """Returns the mask [rows, longest response] that goes with :func:`responses`."""
    counts = batch.mask.sum(1)
    return torch.arange(int(counts.max()), device=counts.device) < counts.unsqueeze(1)


class _Model(nn.Module):
    """A model of transformers without dropout, computed in a dtype of its own.

    Args:
        model: Of transformers, on the CPU.
        compute: dtype of its passes.

    Attributes:
        packed: Whether forward passes leave padding out (:mod:`~tulu_eval.training.packing`).
    """

    def __init__(self, model: Any, compute: torch.dtype) -> None:
        super().__init__()
        self.model = model.eval()
        self.compute = compute
        self.packed = enable_packing(model)
        config = model.config.get_text_config()
        self._attention_width: int = config.num_hidden_layers * config.hidden_size
        head = getattr(model.get_output_embeddings(), "weight", None)
        outside = {id(weight): weight.numel() for weight in (model.get_input_embeddings().weight, head) if weight is not None}
        self._head: int = 0 if head is None else int(head.numel())
        self._body: int = sum(parameter.numel() for parameter in model.parameters()) - sum(outside.values())

    def _flops(self, lengths: Sequence[int], said: int) -> float:
        """Returns the operations of a forward pass over rows of so many tokens, with the head at ``said`` of them."""
        squares = sum(length * length for length in lengths)
        return float(2 * (self._body * sum(lengths) + self._head * said + self._attention_width * squares))

    def _computing(self, device: torch.device) -> AbstractContextManager[Any]:
        if self.compute == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(device.type, self.compute)

    def _run(self, part: Any, said: str, ids: Tensor, packing: Packing) -> Tensor:
        """Returns what a part of the model says of each packed token: [packed tokens, width]."""
        arguments = packed_arguments(ids, packing) if self.packed else {"input_ids": ids, "use_cache": False}
        found: Tensor = getattr(part(**arguments), said).flatten(0, 1)
        return found if self.packed else found[packing.places]

    def train(self, mode: bool = True) -> _Model:
        """Stays in evaluation mode: a second forward pass must give the same numbers, so there is no dropout."""
        return super().train(False)


class Policy(_Model):
    """A causal language model: log-probabilities of tokens, and the logits of the next one.

    Attributes:
        plain_head: Whether its logits are one product of the last layer and a matrix; else they are taken as they come.
    """

    def __init__(self, model: Any, compute: torch.dtype) -> None:
        super().__init__(model, compute)
        self.plain_head = _has_plain_head(model)

    def forward(self, batch: Batch, temperature: float = 1.0) -> Tensor:
        """Returns [rows, tokens], float32: the log-probability of each token that counts given those before it; else 0."""
        rows, width = batch.ids.shape
        counts = batch.mask.clone()
        counts[:, 0] = False  # nothing stands before it
        # What stands behind the last token that counts, that token included, has no effect on any of them.
        last = (counts * torch.arange(width, device=counts.device)).amax(1)
        packed = Packing.of(last, width)
        following = packed.places + 1
        chosen = counts.flatten()[following]
        targets = batch.ids.flatten()[following[chosen]]
        with self._computing(batch.ids.device):
            if self.plain_head:
                hidden = self._run(self.model.base_model, "last_hidden_state", batch.ids, packed)[chosen]
                found = head_logprobs(hidden, self.model.get_output_embeddings().weight, targets, temperature)
            else:
                found = token_logprobs(self._run(self.model, "logits", batch.ids, packed)[chosen], targets, temperature)
        return spread(found, following[chosen], rows, width)

    def flops(self, rows: Sequence[Tokens]) -> float:
        """Returns the operations that log-probabilities of rows need."""
        return self._flops([len(row) - 1 for row in rows], sum(int(row.mask.sum()) for row in rows))

    def next_logits(self, ids: Tensor, attention: Tensor | None, positions: Tensor, cache: Any) -> Tensor:
        """Returns [rows, vocabulary], the logits behind the last of ``ids`` [rows, tokens]; the cache goes on.

        Args:
            ids: What the cache does not have yet.
            attention: [rows, all tokens so far], 0 for filling at the left; none: there is none.
            positions: [rows, tokens].
            cache: Keys and values so far, of transformers.
        """
        with self._computing(ids.device):
            out = self.model(
                input_ids=ids,
                attention_mask=attention,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        logits: Tensor = out.logits[:, -1]
        return logits


class Scorer(_Model):
    """A model with one number a token: a reward model, or a value model, which is a copy of one.

    It is ``*ForSequenceClassification`` of transformers, whose own pooling is not used: it looks for padding tokens.
    """

    def forward(self, batch: Batch) -> Tensor:
        """Returns [rows, tokens], float32: the number behind each token; 0 behind a row's end."""
        rows, width = batch.ids.shape
        packed = Packing.of(batch.lengths, width)
        with self._computing(batch.ids.device):
            numbers = self.model.score(self._run(self.model.base_model, "last_hidden_state", batch.ids, packed))
        return spread(wide(numbers)[:, 0], packed.places, rows, width)

    def flops(self, rows: Sequence[Tokens]) -> float:
        """Returns the operations that the numbers of rows need."""
        return self._flops([len(row) for row in rows], 0)


def last_token_scores(scores: Tensor, batch: Batch) -> Tensor:
    """Returns [rows], what a scorer says at each row's last token: a reward."""
    return scores.gather(1, (batch.lengths - 1).unsqueeze(1)).squeeze(1)


def values_before(scores: Tensor) -> Tensor:
    """Returns [rows, tokens], the value of the state before each token, from what a scorer says behind each."""
    return functional.pad(scores[:, :-1], (1, 0))


def checkpoint_activations(model: _Model) -> None:
    """Has each layer keep only its input for the backward pass, and compute the rest once more."""
    for layer in max((module for module in model.modules() if isinstance(module, nn.ModuleList)), key=len):
        layer.forward = _checkpointed(layer.forward)


def _checkpointed(forward: Callable[..., Any]) -> Callable[..., Any]:
    def once_more(*arguments: Any, **named: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*arguments, **named)
        return checkpoint(forward, *arguments, use_reentrant=False, preserve_rng_state=False, **named)

    return once_more


@torch.no_grad()
def _has_plain_head(model: Any) -> bool:
    """Whether a model's logits are its last layer times its head's weight, with nothing added, scaled or capped."""
    head: object = model.get_output_embeddings()
    if not isinstance(head, nn.Linear) or "bias" in dict(head.named_parameters()):
        return False
    ids = torch.tensor([[1, 2]]) % head.weight.shape[0]
    hidden: Tensor = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    return torch.equal(model(input_ids=ids, use_cache=False).logits.float(), functional.linear(hidden, head.weight).float())
