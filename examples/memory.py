"""The memory arithmetic of the examples: what ``tulu-eval train ppo --dry-run`` prints, without the weights or the data.

``python examples/memory.py`` prints the tables of ``ppo_8b_on_h200.md``; ``--check`` says whether they are still what the page
has. Shapes are Llama 3's (its config.json); parameters are counted on the meta device; the longest prompt is the recipe's.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from tulu_eval.models.base import ModelFiles
from tulu_eval.training import cost, recipes
from tulu_eval.training.data import TrainingRows
from tulu_eval.training.job import Job, TrainingOrder
from tulu_eval.training.text import Tokens

PAGE = Path(__file__).with_name("ppo_8b_on_h200.md")
H200_GIB = 139.0
"""Memory of one H200, as its driver says."""

COMMON = {"vocab_size": 128256, "num_key_value_heads": 8, "max_position_embeddings": 8192}
SHAPES: dict[str, dict[str, Any]] = {
    "8B": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32, **COMMON},
    "70B": {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64, **COMMON},
}

EXAMPLES = {
    "8B policy, 8B reward model, one node of 8": ("8B", 8, 0.3, ()),
    "8B policy, 70B reward model, four nodes of 8": ("70B", 32, 0.25, ("micro_tokens=8192",)),
}
"""Title: size of the reward model, devices, fraction of each for vLLM, settings that differ from the recipe's."""


def files(size: str, folder: Path, cls: Any) -> ModelFiles:
    """Returns a model of a size as the planner sees it."""
    path = folder / f"{size}-{cls.__name__}"
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps(SHAPES[size]))
    with torch.device("meta"):
        parameters = sum(p.numel() for p in cls(LlamaConfig(**SHAPES[size], num_labels=1)).parameters())
    return ModelFiles(size, path, "", "", "", cls.__name__, parameters, "bfloat16", 8192, 2 * parameters)


def table(reward: str, world: int, share: float, changes: tuple[str, ...]) -> str:
    """Returns one example's parts as Markdown."""
    sourced = recipes.load("ppo", "easylm", changes)
    longest = sourced.recipe.max_length
    rows = TrainingRows([Tokens(np.zeros(longest, dtype=np.int32), np.zeros(longest, dtype=np.bool_))], {}, "")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        order = TrainingOrder("ppo", "easylm", rollouts="vllm", rollout_memory=share, changes=changes)
        policy, scorer = files("8B", folder, LlamaForCausalLM), files(reward, folder, LlamaForSequenceClassification)
        parts = cost.memory(Job(order, sourced, policy, scorer, None, rows, folder, 512, 8), world, "cuda")
    engine = parts.pop("policy in vLLM, without its cache") / 2**30
    lines = ["| part, on each device | GiB |", "| --- | --- |"]
    lines += [f"| {name} | {size / 2**30:.1f} |" for name, size in parts.items()]
    whole = sum(parts.values()) / 2**30
    lines += [
        f"| vLLM, {share:.0%} of {H200_GIB:.0f} GiB: weights {engine:.1f}, the rest keys and values | {share * H200_GIB:.1f} |",
        f"| together, of {H200_GIB:.0f} | {whole + share * H200_GIB:.1f} |",
    ]
    return "\n".join(lines)


def main() -> None:
    """Prints the tables, or checks the page."""
    tables = {title: table(*example) for title, example in EXAMPLES.items()}
    if "--check" in sys.argv:
        missing = [title for title, text in tables.items() if text not in PAGE.read_text(encoding="utf-8")]
        sys.exit(f"{PAGE.name} has other numbers than these for: {', '.join(missing)}" if missing else 0)
    print("\n\n".join(f"{title}\n\n{text}" for title, text in tables.items()))


if __name__ == "__main__":
    main()
