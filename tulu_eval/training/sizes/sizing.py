"""Jobs of a known size without their files, so that memory and operations can be planned before any weight or row is there.

The shapes are Llama 3's (``config.json`` of meta-llama/Meta-Llama-3-8B and -70B). A job's rows are stand-ins: as many as the
data set has, each of one length.
"""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from tulu_eval import files
from tulu_eval.models.base import ModelFiles
from tulu_eval.training.job import Job, TrainingOrder, per_step
from tulu_eval.training.rows.data import PreferencePair, TrainingRows
from tulu_eval.training.stages import Sourced
from tulu_eval.training.text import Tokens

_COMMON = {"vocab_size": 128256, "num_key_value_heads": 8, "max_position_embeddings": 8192}
LLAMA_3 = MappingProxyType(
    {
        "8B": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32, **_COMMON},
        "70B": {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64, **_COMMON},
    }
)
"""Parts of ``config.json`` by size."""


def parameters(size: str, *, scorer: bool) -> int:
    """Returns the number of parameters of a Llama 3: a policy has an output layer of its own, a scorer one row of it."""
    shape = LLAMA_3[size]
    width, feed_forward = shape["hidden_size"], shape["intermediate_size"]
    keys = width // shape["num_attention_heads"] * shape["num_key_value_heads"]
    layer = 2 * width * (width + keys) + 3 * width * feed_forward + 2 * width
    embedding = shape["vocab_size"] * width
    return embedding + shape["num_hidden_layers"] * layer + width + (width if scorer else embedding)


def model_files(size: str, folder: Path, *, scorer: bool) -> ModelFiles:
    """Returns a Llama 3 as planners see it; writes its config, which they read, into the folder."""
    path = folder / f"{size}-{'scorer' if scorer else 'policy'}"
    path.mkdir(exist_ok=True)
    files.write_json(path / "config.json", LLAMA_3[size])
    architecture = f"LlamaFor{'SequenceClassification' if scorer else 'CausalLM'}"
    count = parameters(size, scorer=scorer)
    return ModelFiles(
        size, path, "", "", "", architecture, count, "bfloat16", LLAMA_3[size]["max_position_embeddings"], 2 * count
    )


def job(
    order: TrainingOrder, sourced: Sourced, model: ModelFiles, reward_model: ModelFiles | None, *, rows: int, tokens: int
) -> Job:
    """Returns the job of a recipe with a number of rows (SFT), pairs or prompts, each row or side with as many tokens."""
    one = Tokens(np.zeros(tokens, dtype=np.int32), np.zeros(tokens, dtype=np.bool_))
    row: Any = PreferencePair(one, one) if sourced.stage in ("rm", "dpo") else one
    folder = order.output or Path()
    return Job(order, sourced, model, reward_model, None, TrainingRows([row] * rows, {}, ""), folder, *per_step(sourced.recipe))
