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
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from tulu_eval.errors import PreflightError
from tulu_eval.models import config as configs
from tulu_eval.models import weights
from tulu_eval.models.skeleton import check_shapes, first_line
from tulu_eval.training.formulas import head_logprobs, token_logprobs, wide
from tulu_eval.training.packing import Packing, packed_arguments, spread
from tulu_eval.training.packing import enable as enable_packing
from tulu_eval.training.randomness import derive
from tulu_eval.training.text import TEMPLATE, Tokens


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


def load_policy(folder: Path, *, compute: str, trained: bool) -> Policy:
    """Loads a causal language model; a trained one in float32, a frozen one in the dtype it computes in.

    Raises:
        PreflightError: It cannot be loaded, or weights are missing.
    """
    from transformers import AutoModelForCausalLM

    dtype = torch.float32 if trained else getattr(torch, compute)
    model, missing = _load(AutoModelForCausalLM, folder, dtype)
    if missing:
        raise PreflightError(f"{folder} cannot be trained: weights are missing, {missing[0]} and {len(missing) - 1} more")
    policy = Policy(model, getattr(torch, compute))
    policy.requires_grad_(trained)
    return policy


def load_scorer(folder: Path, *, compute: str, trained: bool, new_head: tuple[int, float] | None = None) -> Scorer:
    """Loads a reward model, or makes one from a causal language model.

    Args:
        folder: The model.
        compute: dtype of its passes.
        trained: Whether it is trained; if not it is frozen.
        new_head: Seed and standard deviation of a new head, which takes the place of the old model's.

    Raises:
        PreflightError: It cannot be loaded, or is no reward model and no new head was asked for.
    """
    from transformers import AutoModelForSequenceClassification

    dtype = torch.float32 if trained else getattr(torch, compute)
    model, missing = _load(AutoModelForSequenceClassification, folder, dtype, num_labels=1)
    head: object = getattr(model, "score", None)
    if not isinstance(head, nn.Linear) or "bias" in dict(head.named_parameters()):
        raise PreflightError(f"{folder} is of an architecture whose reward models have no plain 'score' head")
    if new_head is not None:
        seed, deviation = new_head
        generator = torch.Generator().manual_seed(derive(seed, "score head"))
        drawn = torch.randn(head.weight.shape, generator=generator) * deviation
        head.weight = nn.Parameter(drawn.to(dtype))
        missing = [name for name in missing if name != "score.weight"]
    if missing:
        raise PreflightError(f"{folder} is not a reward model: {missing[0]} is missing; train one with 'tulu-eval train rm'")
    scorer = Scorer(model, getattr(torch, compute))
    scorer.requires_grad_(trained)
    return scorer


def _load(auto: Any, folder: Path, dtype: torch.dtype, **more: Any) -> tuple[Any, list[str]]:
    try:
        there = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise PreflightError(f"{folder} cannot be loaded: {error.strerror}") from error
    check_shapes(auto, folder, weights.choose(folder, there, str(folder), allow_pickle=False), **more)
    try:
        model, report = auto.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True, **more
        )
    except Exception as error:  # transformers raises of any kind where a config does not fit its weights
        raise PreflightError(f"{folder} cannot be loaded: {first_line(error)}") from error
    return model, sorted(report["missing_keys"])


@torch.no_grad()
def _has_plain_head(model: Any) -> bool:
    """Whether a model's logits are its last layer times its head's weight, with nothing added, scaled or capped."""
    head: object = model.get_output_embeddings()
    if not isinstance(head, nn.Linear) or "bias" in dict(head.named_parameters()):
        return False
    ids = torch.tensor([[1, 2]]) % head.weight.shape[0]
    hidden: Tensor = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    return torch.equal(model(input_ids=ids, use_cache=False).logits.float(), functional.linear(hidden, head.weight).float())


def vocabulary(model: _Model) -> int:
    """Returns the number of token ids that a model has an embedding for."""
    return int(model.model.get_input_embeddings().weight.shape[0])


def save(model: _Model, state: dict[str, Tensor], folder: Path, tokenizer: Any) -> None:
    """Writes a model as a folder that transformers loads: safetensors, config, tokenizer.

    Args:
        model: What to write.
        state: Its weights, whole, as :func:`~tulu_eval.training.parallel.whole_state` returns them.
        folder: Where.
        tokenizer: What goes with it.
    """
    from transformers import GenerationConfig

    config = model.model.config
    config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    # transformers looks for a row's last token by the padding token: one that ends texts too would hide it.
    config.pad_token_id = None if tokenizer.pad_token_id == tokenizer.eos_token_id else tokenizer.pad_token_id
    if isinstance(model, Policy):
        # The released checkpoints' says that token 2 ends a text, an ordinary token of Llama 3's vocabulary.
        model.model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
        )
    model.model.save_pretrained(folder, state_dict={name.removeprefix("model."): value for name, value in state.items()})
    written = configs.read_object(folder / "config.json", configs.MAX_CONFIG)
    written["dtype"] = str(next(iter(state.values())).dtype).removeprefix("torch.")  # there: that of the model in memory
    (folder / "config.json").write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
