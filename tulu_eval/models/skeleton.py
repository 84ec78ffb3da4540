"""Checks the shapes that a config gives against those of the weights, before memory is taken for either.

transformers 5.19 makes tensors of the config's sizes, fills them with random numbers, and only then says that a checkpoint's
have other shapes: an ``intermediate_size`` of 10,000,000 beside weights of 1.6 million parameters takes 8 GB and 88 s.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tulu_eval.errors import PreflightError
from tulu_eval.models import config as configs
from tulu_eval.models import weights

MOST_MORE = 2
"""Largest ratio of a model's parameters to its weights'; a model with tied embeddings counts them twice."""

ALLOWANCE = 1_000_000
"""Number of further parameters that any model may have, such as a new head."""


def check_shapes(auto: Any, folder: Path, files: tuple[str, ...], *, trust_remote_code: bool = False, **more: Any) -> None:
    """Checks the shapes that transformers makes from a folder's config against its weights.

    ``auto`` is the class that will load it, e.g. ``AutoModelForCausalLM``; ``more`` are other settings of the config. Of
    pickles, and where ``files`` is empty, nothing is known.

    Raises:
        PreflightError: If the config makes no model, or one of other shapes.
    """
    from transformers import AutoConfig

    if not files or configs.read(folder).quantised or not all(name.endswith(".safetensors") for name in files):
        return
    there = weights.layout(folder, files)
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code, local_files_only=True, **more)
        wanted = shapes(auto, config, trust_remote_code)
    except Exception as error:  # whatever transformers raises by a config that makes no model
        raise PreflightError(f"{folder} cannot be loaded: {first_line(error)}") from error
    for name, shape in wanted.items():
        if name in there and there[name].shape != shape:
            raise PreflightError(
                f"{folder} cannot be loaded: its weights have {name} in the shape {list(there[name].shape)}, and its "
                f"config.json makes it {list(shape)}"
            )
    if reason := too_large(wanted, sum(weights.count(there).values())):
        raise PreflightError(f"{folder} cannot be loaded: {reason}")


def shapes(auto: Any, config: Any, trust_remote_code: bool = False) -> dict[str, tuple[int, ...]]:
    """Returns the shape of each parameter of a config's model without taking memory; may raise anything."""
    import torch

    with torch.device("meta"):
        model = auto.from_config(config, trust_remote_code=trust_remote_code)
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def too_large(made: Mapping[str, tuple[int, ...]], there: int) -> str:
    """Returns why a model of these shapes cannot be that of the weights; empty if it can."""
    size = sum(map(math.prod, made.values()))
    if size <= MOST_MORE * there + ALLOWANCE:
        return ""
    return f"its config makes a model of {size:,} parameters, and its weights have {there:,}"


def first_line(error: Exception) -> str:
    """Returns the first line of an exception's message, or its class if the message is empty."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
