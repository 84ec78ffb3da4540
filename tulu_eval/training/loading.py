"""Loads models for training from folders of transformers, and writes them as such folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tulu_eval.errors import PreflightError, UserError
from tulu_eval.models import config as configs
from tulu_eval.models import weights as weight_files
from tulu_eval.models.quiet import without_bars
from tulu_eval.models.skeleton import check_shapes, first_line
from tulu_eval.training.networks import Policy, Scorer, checkpoint_activations
from tulu_eval.training.parallel import Ranks
from tulu_eval.training.randomness import derive
from tulu_eval.training.sharding import M, fill, shard
from tulu_eval.training.text import TEMPLATE

HEAD = "score.weight"
"""Name of a reward model's head."""


def load_policy(
    folder: Path, *, compute: str, trained: bool, ranks: Ranks | None = None, checkpointing: bool = False
) -> Policy:
    """Loads a causal language model: in float32 to train it, else frozen in the compute dtype.

    It is sharded among the ranks, which must all call this; with ``checkpointing``, its layers keep only their inputs.

    Raises:
        PreflightError: If it cannot be loaded, or weights are missing.
    """
    from transformers import AutoModelForCausalLM

    dtype = torch.float32 if trained else getattr(torch, compute)
    found = _find(AutoModelForCausalLM, folder, dtype)
    if found.missing:
        more = len(found.missing) - 1
        raise PreflightError(f"{folder} cannot be trained: weights are missing, {found.missing[0]} and {more} more")
    return _place(Policy(found.model, getattr(torch, compute)), found.weights, trained, ranks or Ranks(), checkpointing)


def load_scorer(
    folder: Path,
    *,
    compute: str,
    trained: bool,
    new_head: tuple[int, float] | None = None,
    ranks: Ranks | None = None,
    checkpointing: bool = False,
) -> Scorer:
    """Loads a reward model, or makes one from a causal language model, like :func:`load_policy`.

    ``compute`` is the dtype of forward and backward passes; a model that is not ``trained`` is frozen. ``new_head`` has the
    seed and standard deviation of a new head; ``None`` keeps the model's own.

    Raises:
        PreflightError: If it cannot be loaded, or it is not a reward model and gets no new head.
    """
    from transformers import AutoModelForSequenceClassification

    dtype = torch.float32 if trained else getattr(torch, compute)
    found = _find(AutoModelForSequenceClassification, folder, dtype, num_labels=1)
    head: object = getattr(found.model, "score", None)
    if not isinstance(head, nn.Linear) or "bias" in dict(head.named_parameters()):
        raise PreflightError(f"{folder} is of an architecture whose reward models have no plain 'score' head")
    weights, missing = found.weights, found.missing
    if new_head is not None:
        seed, deviation = new_head
        generator = torch.Generator().manual_seed(derive(seed, "score head"))
        drawn = torch.randn(head.weight.shape, generator=generator) * deviation
        missing = [name for name in missing if name != HEAD]
        if weights:
            weights = weights | {HEAD: drawn}
        else:
            head.weight = nn.Parameter(drawn.to(dtype))
    if missing:
        raise PreflightError(f"{folder} is not a reward model: {missing[0]} is missing; train one with 'tulu-eval train rm'")
    return _place(Scorer(found.model, getattr(torch, compute)), weights, trained, ranks or Ranks(), checkpointing)


class _Found(NamedTuple):
    """A model of a folder.

    Attributes:
        model: The model; on the meta device if its weights are still to be read.
        weights: The file of each of its tensors; empty if they are in the model.
        missing: Names of tensors that the folder lacks.
    """

    model: Any
    weights: dict[str, Path | Tensor]
    missing: list[str]


def _find(auto: Any, folder: Path, dtype: torch.dtype, **more: Any) -> _Found:
    """Returns a folder's model without reading weights, if its files name them as the model does; else with them."""
    from transformers import AutoConfig

    try:
        there = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise PreflightError(f"{folder} cannot be loaded: {error.strerror}") from error
    files = weight_files.choose(folder, there, str(folder), allow_pickle=False)
    check_shapes(auto, folder, files, **more)
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, **more)
        with torch.device("meta"):
            model = auto.from_config(config, dtype=dtype)
        places = {name: folder / file for file in files for name in weight_files.layout(folder, (file,))}
        # A module may hold a parameter under two names; the files have one of them, or both.
        names = {name for name, _ in model.named_parameters()}
        persistent = names | (set(model.state_dict(keep_vars=True)) & {name for name, _ in model.named_buffers()})
        lacking = persistent - set(places)
        if lacking <= {HEAD} and not configs.read(folder).quantised:
            return _Found(model, {name: places[name] for name in sorted(persistent - lacking)}, sorted(lacking))
        with without_bars():
            model, report = auto.from_pretrained(
                folder, dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True, **more
            )
    except UserError:
        raise
    except Exception as error:  # transformers raises errors of any kind if a config does not fit its weights
        raise PreflightError(f"{folder} cannot be loaded: {first_line(error)}") from error
    return _Found(model, {}, sorted(report["missing_keys"]))


def _place(model: M, weights: dict[str, Path | Tensor], trained: bool, ranks: Ranks, checkpointing: bool) -> M:
    """Shards a model and reads its weights; returns it."""
    model.requires_grad_(trained)
    if checkpointing:
        checkpoint_activations(model)
    shard(model, ranks)
    if weights:
        fill(model, weights, ranks)
    return model


def save(model: Policy | Scorer, state: dict[str, Tensor], folder: Path, tokenizer: Any) -> None:
    """Writes a model as a folder that transformers loads: safetensors, config, tokenizer.

    ``state`` is from :func:`~tulu_eval.training.parallel.whole_state`; the function sets the tokenizer's chat template.
    """
    from transformers import GenerationConfig

    config = model.model.config
    config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    # transformers finds a row's last token by the padding token, so that must not be the end token too.
    config.pad_token_id = None if tokenizer.pad_token_id == tokenizer.eos_token_id else tokenizer.pad_token_id
    if isinstance(model, Policy):
        # In the released checkpoints' generation config, token 2 ends a text; in Llama 3's vocabulary it is an ordinary token.
        model.model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
        )
    with without_bars():
        model.model.save_pretrained(folder, state_dict={name.removeprefix("model."): value for name, value in state.items()})
    written = configs.read_object(folder / "config.json", configs.MAX_CONFIG)
    written["dtype"] = str(next(iter(state.values())).dtype).removeprefix("torch.")  # save_pretrained wrote the dtype in memory
    (folder / "config.json").write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
