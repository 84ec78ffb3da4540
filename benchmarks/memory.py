"""The memory of a training step: what ``tulu_eval/training/sizes/memory.py`` says against the bytes of live tensors, by part.

Three shapes of a Llama on one and two CPU ranks, with and without activation checkpointing, and in both dtypes: one SFT step of
two micro-batches of 512 tokens on each rank. Every operation is followed, forward and backward, with the storage of what it
makes (``tests/training/live_bytes.py``); what one kernel takes and gives back inside is not seen. Beside stands the growth of
the process's largest resident set, allocator and libraries included.

    python benchmarks/memory.py

With ``--ppo`` it is a step of PPO with four models of a shape, on prompts of 32 tokens and answers of 96, and the whole that
``train ppo --dry-run`` says; an update is one micro-batch on each rank, or two.

    python benchmarks/memory.py --ppo
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "training"))

SHAPES: dict[str, dict[str, int]] = {
    "wide vocabulary": {"vocab_size": 3840, "hidden_size": 128, "intermediate_size": 344, "num_hidden_layers": 4,
                        "num_attention_heads": 2, "num_key_value_heads": 2},
    "deep": {"vocab_size": 512, "hidden_size": 128, "intermediate_size": 344, "num_hidden_layers": 12,
             "num_attention_heads": 4, "num_key_value_heads": 2},
    "wide": {"vocab_size": 4096, "hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 6,
             "num_attention_heads": 4, "num_key_value_heads": 4},
}  # fmt: skip
PARTS = ("states", "activations", "buffers")


PROMPT, ANSWER = 32, 96
"""Tokens of a row of PPO."""


class Order(NamedTuple):
    """What a row of the table is about; an update of SFT has no number of ``micro_batches`` to choose."""

    shape: str
    compute: str
    checkpointing: bool
    micro_batches: int = 0


def child(orders: list[Order], output: Path) -> None:
    """Measures as one of the ranks; the first writes a row for each order."""
    import torch
    from live_bytes import TOKENS, training_peak
    from transformers import LlamaConfig

    from tulu_eval.training import parallel
    from tulu_eval.training.at_once import HEAD_ROWS
    from tulu_eval.training.sizes import memory

    torch.set_num_threads(1)
    rows = []
    with parallel.ranks("cpu") as ranks:
        for place, order in enumerate(orders):
            config = LlamaConfig(
                **SHAPES[order.shape], tie_word_embeddings=False, bos_token_id=None, eos_token_id=None, num_labels=1
            )
            if order.micro_batches:
                rows.append(ppo_row(output.parent / str(place), order, config, ranks))
                continue
            found = training_peak(output.parent / str(place), config, order.compute, order.checkpointing, ranks)
            number = 2 if order.compute == "bfloat16" else 4
            one = memory.Pass(number, TOKENS, HEAD_ROWS, order.checkpointing, ranks.world, accumulated=True, flash=False)
            model = says(shape_of(config), one)
            rows.append(row(order, ranks.world, [found.parts.get(part, 0) for part in PARTS], model, found.resident))
        if ranks.first:
            output.write_text("\n".join(rows))


def says(shape: Any, one: Any) -> list[int]:
    """Returns what the planner says, by :data:`PARTS`; states are weights, gradients and moments."""
    from tulu_eval.training.sizes import memory

    parts = memory.peak(shape, one)
    return [memory.states(shape, one.world) + parts[memory.GRADIENTS], parts[memory.ACTIVATIONS], parts[memory.BUFFERS]]


def row(order: Order, world: int, measured: list[int], model: list[int], resident: int) -> str:
    """Returns a row of the table."""
    sums = (*measured, sum(measured)), (*model, sum(model))
    cells = " | ".join(f"{is_ / 2**20:.2f} / {says / 2**20:.2f}" for is_, says in zip(*sums, strict=True))
    off = 100 * (sum(model) / sum(measured) - 1)
    saving = "yes" if order.checkpointing else "no"
    return f"| {order.shape} | {order.compute} | {saving} | {world} | {cells} | {off:+.1f} % | {resident / 2**20:.0f} |"


def ppo_row(folder: Path, order: Order, config: Any, ranks: Any) -> str:
    """Measures a step of PPO, and returns its row of the table."""
    from dataclasses import replace

    from live_bytes import TOKENS, ppo_peak
    from transformers import LlamaForCausalLM, LlamaForSequenceClassification

    from tulu_eval.training import recipes
    from tulu_eval.training.job import TrainingOrder
    from tulu_eval.training.sizes import cost, sizing

    rows = order.micro_batches * TOKENS // (PROMPT + ANSWER) * ranks.world
    tiny = recipes.load("ppo", "tiny")
    recipe: Any = replace(
        tiny.recipe, rollout_batch=rows, batch=rows, micro_tokens=TOKENS, compute_dtype=order.compute, max_length=PROMPT,
        activation_checkpointing=order.checkpointing, max_new_tokens=ANSWER, no_eos_reward=None, warmup=0.0,
    )  # fmt: skip
    found = ppo_peak(folder, config, recipe, PROMPT, ranks)
    with tempfile.TemporaryDirectory() as name:
        models = [files_of(config, cls, Path(name)) for cls in (LlamaForCausalLM, LlamaForSequenceClassification)]
        job = sizing.job(TrainingOrder("ppo", "tiny"), replace(tiny, recipe=recipe), *models, rows=1, tokens=PROMPT)
        said = sum(cost.memory(job, ranks.world, "cpu").values())
    measured, saving = sum(found.parts.values()), "yes" if order.checkpointing else "no"
    parts = " | ".join(f"{found.parts.get(part, 0) / 2**20:.2f}" for part in PARTS)
    together = f"{measured / 2**20:.2f} / {said / 2**20:.2f} | {100 * (said / measured - 1):+.1f} %"
    return f"| {order.shape} | {order.compute} | {saving} | {order.micro_batches} | {ranks.world} | {parts} | {together} |"


def files_of(config: Any, cls: Any, folder: Path) -> Any:
    """Returns a model of a config as planners see it; writes the config, which they read, into the folder."""
    import torch

    from tulu_eval.models.base import ModelFiles

    with torch.device("meta"):
        parameters = sum(p.numel() for p in cls(config).parameters())
    config.save_pretrained(folder)
    return ModelFiles("model", folder, "", "", "", cls.__name__, parameters, "float32", 2048, 4 * parameters)


def shape_of(config: Any) -> Any:
    """Returns the planner's shape of a config, through a folder as it sees one."""
    from transformers import LlamaForCausalLM

    from tulu_eval.training.sizes.memory import Shape

    with tempfile.TemporaryDirectory() as name:
        return Shape.of(files_of(config, LlamaForCausalLM, Path(name)), scorer=False)


def measure(orders: list[Order], world: int) -> str:
    """Returns the rows of some ranks."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "rows"
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world)]
        command = [sys.executable, *launcher, __file__, "--child", json.dumps(orders), str(output)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"})
        if done.returncode:
            sys.exit(done.stderr[-3000:])
        return output.read_text()


def main() -> None:
    """Prints the table; with ``--child`` (used by itself) measures as one rank."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--dtypes", nargs="+", choices=("bfloat16", "float32"), default=["bfloat16", "float32"])
    parser.add_argument("--ranks", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--ppo", action="store_true", help="measure PPO instead of SFT")
    order = parser.parse_args()
    if order.child:
        child([Order(*words) for words in json.loads(order.child[0])], Path(order.child[1]))
        return
    columns = ["shape", "dtype", "checkpointing", *(["micro-batches"] if order.ppo else []), "ranks", *PARTS, "together", "off"]
    columns += [] if order.ppo else ["resident"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    kinds = (order.shapes, order.dtypes, (False, True), (1, 2) if order.ppo else (0,))
    orders = [Order(*words) for words in itertools.product(*kinds)]
    for world in order.ranks:
        print(measure(orders, world), flush=True)


if __name__ == "__main__":
    main()
