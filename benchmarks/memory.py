"""The memory of a training step: what ``tulu_eval/training/memory.py`` says against the bytes of live tensors, by part.

Three shapes of a Llama on one and two CPU ranks, with and without activation checkpointing, and in both dtypes: one SFT step of
two micro-batches of 512 tokens on each rank. Every operation is followed, forward and backward, with the storage of what it
makes (``tests/training/live_bytes.py``); what one kernel takes and gives back inside is not seen. Beside stands the growth of
the process's largest resident set, allocator and libraries included.

    python benchmarks/memory.py
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


class Order(NamedTuple):
    """What a row of the table is about."""

    shape: str
    compute: str
    checkpointing: bool


def child(orders: list[Order], output: Path) -> None:
    """Measures as one of the ranks; the first writes a row for each order."""
    import torch
    from live_bytes import TOKENS, training_peak
    from transformers import LlamaConfig

    from tulu_eval.training import memory, parallel
    from tulu_eval.training.formulas import HEAD_ROWS

    torch.set_num_threads(1)
    rows = []
    with parallel.ranks("cpu") as ranks:
        for place, order in enumerate(orders):
            config = LlamaConfig(**SHAPES[order.shape], tie_word_embeddings=False, bos_token_id=None, eos_token_id=None)
            found = training_peak(output.parent / str(place), config, order.compute, order.checkpointing, ranks)
            number = 2 if order.compute == "bfloat16" else 4
            one = memory.Pass(number, TOKENS, HEAD_ROWS, order.checkpointing, ranks.world, flash=False)
            shape = shape_of(config)
            model = [memory.states(shape, ranks.world), *memory.peak(shape, one).values()]
            rows.append(row(order, ranks.world, [found.parts.get(part, 0) for part in PARTS], model, found.resident))
        if ranks.first:
            output.write_text("\n".join(rows))


def row(order: Order, world: int, measured: list[int], model: list[int], resident: int) -> str:
    """Returns a row of the table."""
    sums = (*measured, sum(measured)), (*model, sum(model))
    cells = " | ".join(f"{is_ / 2**20:.2f} / {says / 2**20:.2f}" for is_, says in zip(*sums, strict=True))
    off = 100 * (sum(model) / sum(measured) - 1)
    saving = "yes" if order.checkpointing else "no"
    return f"| {order.shape} | {order.compute} | {saving} | {world} | {cells} | {off:+.1f} % | {resident / 2**20:.0f} |"


def shape_of(config: Any) -> Any:
    """Returns the planner's shape of a config, through a folder as it sees one."""
    import torch
    from transformers import LlamaForCausalLM

    from tulu_eval.models.base import ModelFiles
    from tulu_eval.training.memory import Shape

    with torch.device("meta"):
        parameters = sum(p.numel() for p in LlamaForCausalLM(config).parameters())
    with tempfile.TemporaryDirectory() as name:
        config.save_pretrained(name)
        files = ModelFiles("model", Path(name), "", "", "", "LlamaForCausalLM", parameters, "float32", 2048, 4 * parameters)
        return Shape.of(files, scorer=False)


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
    order = parser.parse_args()
    if order.child:
        child([Order(*words) for words in json.loads(order.child[0])], Path(order.child[1]))
        return
    print("| shape | dtype | checkpointing | ranks | states | activations | buffers | together | off | resident |")
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    orders = [Order(*words) for words in itertools.product(order.shapes, order.dtypes, (False, True))]
    for world in order.ranks:
        print(measure(orders, world), flush=True)


if __name__ == "__main__":
    main()
