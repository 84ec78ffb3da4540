"""The models of training: policies, which give log-probabilities, and scorers, which give one number per token.

The rows of a batch are padded on the right. No padding goes through a model: a forward pass takes one sequence of all rows'
tokens (:mod:`~tulu_eval.training.packing`). It never holds the logits of a whole batch. A model that cannot be packed also
computes the padding, which has no effect, because in a causal model no token sees later ones. Masks come from lengths, never
from token ids, so a padding token may also be the end token.

Log-probabilities and values are aligned with the tokens: column t is about token t, given the tokens before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from tulu_eval.training.formulas import head_logprobs, token_logprobs, wide
from tulu_eval.training.packing import Packing, packed_arguments, spread
from tulu_eval.training.packing import enable as enable_packing
from tulu_eval.training.parallel import begin_again
from tulu_eval.training.text import Tokens


class Batch(NamedTuple):
    """Rows of tokens as tensors.

    Attributes:
        ids: [rows, tokens], int64; 0 after a row's end.
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
    """Returns [rows, longest response]: the columns of x [rows, tokens] from the start of each row's mask, then junk."""
    first = batch.mask.int().argmax(1)
    columns = first.unsqueeze(1) + torch.arange(int(batch.mask.sum(1).max()), device=x.device)
    return x.gather(1, columns.clamp(max=x.shape[1] - 1))


def response_mask(batch: Batch) -> Tensor:
    """Returns the mask [rows, longest response] of the result of :func:`responses`."""
    counts = batch.mask.sum(1)
    return torch.arange(int(counts.max()), device=counts.device) < counts.unsqueeze(1)


class _Model(nn.Module):
    """A model of transformers without dropout.

    It computes in the dtype of its parameters; :func:`~tulu_eval.training.parallel.shard` gives it those of the compute dtype.

    Args:
        model: The model of transformers; on the meta device, :meth:`settle` waits for its weights.
        compute: dtype of forward and backward passes.

    Attributes:
        packed: Whether forward passes omit padding (:mod:`~tulu_eval.training.packing`).
    """

    def __init__(self, model: Any, compute: torch.dtype) -> None:
        super().__init__()
        self.model = model.eval()
        self.compute = compute
        self.packed = False
        config = model.config.get_text_config()
        self._attention_width: int = config.num_hidden_layers * config.hidden_size
        head = getattr(model.get_output_embeddings(), "weight", None)
        outside = {id(weight): weight.numel() for weight in (model.get_input_embeddings().weight, head) if weight is not None}
        self._head: int = 0 if head is None else int(head.numel())
        self._body: int = sum(parameter.numel() for parameter in model.parameters()) - sum(outside.values())

        if not any(parameter.is_meta for parameter in model.parameters()):
            self.settle()

    def settle(self) -> None:
        """Tries on a few tokens how passes may go; all ranks must call it once the weights are there."""
        self.packed = enable_packing(self.model)
        if not self.packed:
            begin_again(self)  # the trial may have ended in the middle of a pass

    def _flops(self, lengths: Sequence[int], said: int) -> float:
        """Returns the operations of a forward pass over rows of these lengths, with the head applied to ``said`` tokens."""
        squares = sum(length * length for length in lengths)
        return float(2 * (self._body * sum(lengths) + self._head * said + self._attention_width * squares))

    def _run(self, part: Any, said: str, ids: Tensor, packing: Packing) -> Tensor:
        """Returns the output ``said`` of a part of the model for each packed token: [packed tokens, width]."""
        arguments = packed_arguments(ids, packing) if self.packed else {"input_ids": ids, "use_cache": False}
        found: Tensor = getattr(part(**arguments), said).flatten(0, 1)
        return found if self.packed else found[packing.places]

    def train(self, mode: bool = True) -> _Model:
        """Keeps evaluation mode, without dropout, because a second forward pass must give the same numbers."""
        return super().train(False)


def layers(model: nn.Module) -> nn.ModuleList:
    """Returns the layers of a model: its longest list of modules."""
    return max((module for module in model.modules() if isinstance(module, nn.ModuleList)), key=len)


class Policy(_Model):
    """A causal language model: log-probabilities of tokens, and the logits of the next one.

    Attributes:
        plain_head: Whether the logits are the product of the last layer and a matrix, so that they can be computed in parts.
    """

    def __init__(self, model: Any, compute: torch.dtype) -> None:
        self.plain_head = False
        super().__init__(model, compute)
        head = model.get_output_embeddings()
        head.logprobs = partial(_logprobs, head)

    def settle(self) -> None:
        """Tries how passes may go, and whether the head is a plain one; all ranks must call it."""
        super().settle()
        self.plain_head = _has_plain_head(self.model)

    def forward(self, batch: Batch, temperature: float = 1.0) -> Tensor:
        """Returns [rows, tokens], float32: the log-probability of each token that counts, given the earlier ones; else 0."""
        rows, width = batch.ids.shape
        counts = batch.mask.clone()
        counts[:, 0] = False  # there is no earlier token
        # The last token that counts, and later ones, have no effect on any log-probability.
        last = (counts * torch.arange(width, device=counts.device)).amax(1)
        packed = Packing.of(last, width)
        following = packed.places + 1
        chosen = counts.flatten()[following]
        targets = batch.ids.flatten()[following[chosen]]
        if self.plain_head:
            hidden = self._run(self.model.base_model, "last_hidden_state", batch.ids, packed)[chosen]
            found = self.model.get_output_embeddings().logprobs(hidden, targets, temperature)
        else:
            found = token_logprobs(self._run(self.model, "logits", batch.ids, packed)[chosen], targets, temperature)
        return spread(found, following[chosen], rows, width)

    def flops(self, rows: Sequence[Tokens]) -> float:
        """Returns the operations for the log-probabilities of rows."""
        return self._flops([len(row) - 1 for row in rows], sum(int(row.mask.sum()) for row in rows))

    def next_logits(self, ids: Tensor, attention: Tensor | None, positions: Tensor, cache: Any) -> Tensor:
        """Returns [rows, vocabulary], the logits after the last of ``ids``; adds keys and values to the cache.

        Args:
            ids: [rows, tokens], tokens that the cache lacks.
            attention: [rows, all tokens so far], 0 for padding on the left; ``None`` without padding.
            positions: [rows, tokens].
            cache: Keys and values so far, of transformers.
        """
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


def _logprobs(head: nn.Linear, hidden: Tensor, targets: Tensor, temperature: float) -> Tensor:
    return head_logprobs(hidden, head.weight, targets, temperature)


class Scorer(_Model):
    """A model with one number per token: a reward model, or a value model, which starts as a copy of one.

    It is ``*ForSequenceClassification`` of transformers without its pooling, which depends on padding tokens.
    """

    def forward(self, batch: Batch) -> Tensor:
        """Returns [rows, tokens], float32: the number at each token; 0 after a row's end."""
        rows, width = batch.ids.shape
        packed = Packing.of(batch.lengths, width)
        numbers = self.model.score(self._run(self.model.base_model, "last_hidden_state", batch.ids, packed))
        return spread(wide(numbers)[:, 0], packed.places, rows, width)

    def flops(self, rows: Sequence[Tokens]) -> float:
        """Returns the operations for the numbers of rows."""
        return self._flops([len(row) for row in rows], 0)


def last_token_scores(scores: Tensor, batch: Batch) -> Tensor:
    """Returns [rows], a scorer's number at each row's last token: the reward."""
    return scores.gather(1, (batch.lengths - 1).unsqueeze(1)).squeeze(1)


def values_before(scores: Tensor) -> Tensor:
    """Returns [rows, tokens], the value of the state before each token, from a scorer's numbers at the tokens."""
    return functional.pad(scores[:, :-1], (1, 0))


def checkpoint_activations(model: _Model) -> None:
    """Makes each layer keep only its input for the backward pass, which then computes the layer again."""
    for layer in layers(model):
        layer.forward = _checkpointed(layer.forward)


def _checkpointed(forward: Callable[..., Any]) -> Callable[..., Any]:
    def once_more(*arguments: Any, **named: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*arguments, **named)
        return checkpoint(forward, *arguments, use_reentrant=False, preserve_rng_state=False, **named)

    return once_more


@torch.no_grad()
def _has_plain_head(model: Any) -> bool:
    """Whether a model's logits are its last layer times the head's weight, with no bias, scale or cap."""
    head: object = model.get_output_embeddings()
    if not isinstance(head, nn.Linear) or "bias" in dict(head.named_parameters()):
        return False
    ids = torch.tensor([[1, 2]], device=next(model.parameters()).device) % head.weight.shape[0]
    hidden: Tensor = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    seen: list[tuple[Tensor, Tensor]] = []
    hook = head.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
    logits: Tensor = model(input_ids=ids, use_cache=False).logits
    hook.remove()
    return len(seen) == 1 and torch.equal(seen[0][0], hidden) and torch.equal(seen[0][1].float(), logits.float())
