"""The memory arithmetic of the examples: what ``tulu-eval train ppo --dry-run`` prints, without the weights or the data.

``python examples/memory.py`` writes the tables into ``ppo_8b_on_h200.md``; ``--check`` says whether the page still has them.
Shapes are Llama 3's (its config.json); parameters are counted on the meta device; the longest prompt is the recipe's.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

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
SHARE = 0.9
"""Share of it that may be planned for: the model of the memory is good to 10 %, and allocators leave fragments."""

COMMON = {"vocab_size": 128256, "num_key_value_heads": 8, "max_position_embeddings": 8192}
SHAPES: dict[str, dict[str, Any]] = {
    "8B": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32, **COMMON},
    "70B": {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64, **COMMON},
}

DEVICES = (8, 16, 32)


class Example(NamedTuple):
    """A reward model, and the settings that all its columns share."""

    reward: str
    share: float
    changes: tuple[str, ...]


EXAMPLES = {
    "8B policy, 8B reward model": Example("8B", 0.3, ()),
    "8B policy, 70B reward model": Example("70B", 0.25, ("micro_tokens=8192",)),
}


def files(size: str, folder: Path, cls: Any) -> ModelFiles:
    """Returns a model of a size as the planner sees it."""
    path = folder / f"{size}-{cls.__name__}"
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps(SHAPES[size]))
    with torch.device("meta"):
        parameters = sum(p.numel() for p in cls(LlamaConfig(**SHAPES[size], num_labels=1)).parameters())
    return ModelFiles(size, path, "", "", "", cls.__name__, parameters, "bfloat16", 8192, 2 * parameters)


def parts(example: Example, world: int) -> dict[str, int]:
    """Returns the bytes on each of ``world`` devices, by part, with those that vLLM gets."""
    sourced = recipes.load("ppo", "easylm", example.changes)
    longest = sourced.recipe.max_length
    rows = TrainingRows([Tokens(np.zeros(longest, dtype=np.int32), np.zeros(longest, dtype=np.bool_))], {}, "")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        order = TrainingOrder("ppo", "easylm", rollouts="vllm", rollout_memory=example.share, changes=example.changes)
        policy, scorer = files("8B", folder, LlamaForCausalLM), files(example.reward, folder, LlamaForSequenceClassification)
        found = cost.memory(Job(order, sourced, policy, scorer, None, rows, folder, 512, 8), world, "cuda")
    engine = found.pop(cost.ENGINE) / 2**30
    found[f"vLLM, {example.share:.0%}: weights {engine:.1f}, the rest keys and values"] = int(example.share * H200_GIB * 2**30)
    return found


def table(example: Example) -> str:
    """Returns one example's parts as Markdown, and which numbers of devices fit."""
    columns = [parts(example, world) for world in DEVICES]
    sums = [sum(column.values()) / 2**30 for column in columns]
    rows = [[name, *(f"{column[name] / 2**30:.1f}" for column in columns)] for name in columns[0]]
    rows.append([f"together, of {H200_GIB:.0f}", *(f"{total:.1f}" for total in sums)])
    rows.append(["fits", *("yes" if total < SHARE * H200_GIB else "no" for total in sums)])
    head = ["GiB on each device", *(f"{world} devices" for world in DEVICES)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def filled(page: str) -> str:
    """Returns a page with the tables of today between their marks."""
    for title, example in EXAMPLES.items():
        begin, end = f"<!-- {title} -->\n", f"\n<!-- end of {title} -->"
        before, _, rest = page.partition(begin)
        page = before + begin + table(example) + end + rest.partition(end)[2]
    return page


def main() -> None:
    """Writes the tables into the page, or checks it."""
    page = PAGE.read_text(encoding="utf-8")
    if "--check" in sys.argv:
        sys.exit(f"{PAGE.name} has other numbers; python examples/memory.py writes them" if filled(page) != page else 0)
    PAGE.write_text(filled(page), encoding="utf-8")


if __name__ == "__main__":
    main()
