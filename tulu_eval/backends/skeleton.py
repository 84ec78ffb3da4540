"""A model's shapes by its config, held against those of its weights before memory is taken for any of them.

transformers 5.19 makes tensors of the config's sizes, fills them with random numbers, and only then says that a checkpoint's
have other shapes: an ``intermediate_size`` of 10,000,000 beside weights of 1.6 million parameters takes 8 GB and 88 s.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tulu_eval.backends import config as configs
from tulu_eval.backends import weights
from tulu_eval.errors import PreflightError

MOST_MORE = 2
"""How many times the weights' parameters a model may have: one that ties its embeddings counts them twice."""

ALLOWANCE = 1_000_000
"""Parameters that any model may have besides, such as a new head."""


def check_shapes(auto: Any, folder: Path, files: tuple[str, ...], *, trust_remote_code: bool = False, **more: Any) -> None:
    """Holds the shapes that transformers will make by a folder's config against its weights.

    Args:
        auto: The class that will load it, e.g. ``AutoModelForCausalLM``.
        folder: The model's.
        files: Names of its weight files; of pickles, and where there is no name, nothing is known.
        trust_remote_code: Run Python code that comes with the model.
        more: Other settings of the config.

    Raises:
        PreflightError: No model can be made by the config, or one of other shapes.
    """
    import torch
    from transformers import AutoConfig

    if not files or configs.read(folder).quantised or not all(name.endswith(".safetensors") for name in files):
        return
    there = weights.layout(folder, files)
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code, local_files_only=True, **more)
        with torch.device("meta"):
            model = auto.from_config(config, trust_remote_code=trust_remote_code)
        wanted = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    except Exception as error:  # whatever transformers raises by a config that makes no model
        raise PreflightError(f"{folder} cannot be loaded: {first_line(error)}") from error
    for name, shape in wanted.items():
        if name in there and there[name].shape != shape:
            raise PreflightError(
                f"{folder} cannot be loaded: its weights have {name} in the shape {list(there[name].shape)}, and its "
                f"config.json makes it {list(shape)}"
            )
    size, made = sum(weights.count(there).values()), sum(parameter.numel() for parameter in model.parameters())
    if made > MOST_MORE * size + ALLOWANCE:
        raise PreflightError(
            f"{folder} cannot be loaded: its config.json makes a model of {made:,} parameters, and its weights have {size:,}"
        )


def first_line(error: Exception) -> str:
    """Returns what an exception of another package says in its first line, or its kind where it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
