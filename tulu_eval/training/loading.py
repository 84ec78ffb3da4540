"""Loads models for training from folders of transformers, and writes them as such folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tulu_eval.errors import PreflightError
from tulu_eval.models import config as configs
from tulu_eval.models import weights
from tulu_eval.models.skeleton import check_shapes, first_line
from tulu_eval.training.networks import Policy, Scorer
from tulu_eval.training.randomness import derive
from tulu_eval.training.text import TEMPLATE


def load_policy(folder: Path, *, compute: str, trained: bool) -> Policy:
    """Loads a causal language model: in float32 to train it, else frozen in the compute dtype.

    Raises:
        PreflightError: If it cannot be loaded, or weights are missing.
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

    ``compute`` is the dtype of forward and backward passes; a model that is not ``trained`` is frozen. ``new_head`` has the
    seed and standard deviation of a new head; ``None`` keeps the model's own.

    Raises:
        PreflightError: If it cannot be loaded, or it is not a reward model and gets no new head.
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
    except Exception as error:  # transformers raises errors of any kind if a config does not fit its weights
        raise PreflightError(f"{folder} cannot be loaded: {first_line(error)}") from error
    return model, sorted(report["missing_keys"])


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
    model.model.save_pretrained(folder, state_dict={name.removeprefix("model."): value for name, value in state.items()})
    written = configs.read_object(folder / "config.json", configs.MAX_CONFIG)
    written["dtype"] = str(next(iter(state.values())).dtype).removeprefix("torch.")  # save_pretrained wrote the dtype in memory
    (folder / "config.json").write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
