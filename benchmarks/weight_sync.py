"""The policy's weights into vLLM before a step: bytes through the transport, bytes through files, seconds.

A policy of a folder, with float32 masters on one rank, changes a little and goes into an engine in bfloat16, several times.
Bytes are given as multiples of the weights': those that the socket took, and those that the system counted for the trainer and
all of the engine's processes (``/proc/PID/io``: ``rchar`` and ``wchar`` of files and pipes, ``read_bytes`` and ``write_bytes``
of disks; a socket's are in none of them). Processor seconds are those of all these processes, the probe's check included; the
other part of the wall seconds is waiting, on a machine with other work for the processor.

    .venv-vllm/bin/python benchmarks/weight_sync.py FOLDER
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import torch
from transformers import AutoTokenizer

from tulu_eval.backends.base import EngineSettings
from tulu_eval.models import model_files
from tulu_eval.training import loading
from tulu_eval.training.networks import Policy
from tulu_eval.training.parallel import Ranks, ranks
from tulu_eval.training.text import Tokens
from tulu_eval.training.vllm_rollout import PROBE_TOKENS, VllmEngine

TEXT = "The capital of France is Paris, and the capital of Germany is Berlin. Water boils at one hundred degrees. "
COLUMNS = ("socket", "rchar", "wchar", "read_bytes", "write_bytes")


def look(processes: list[psutil.Process]) -> Counter[str]:
    """Returns what processes read and wrote so far, in bytes, and their processor seconds."""
    found: Counter[str] = Counter()
    for one in processes:
        for line in Path(f"/proc/{one.pid}/io").read_text().splitlines():
            name, value = line.split(": ")
            found[name] += int(value)
        times = one.cpu_times()
        found["cpu"] += times.user + times.system  # type: ignore[assignment]
    return found


def change(policy: Policy) -> None:
    """Changes a policy's weights by less than a step of training does."""
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(1.0003)


def measure(folder: Path, repeats: int, among: Ranks) -> None:
    """Prints a table of transfers."""
    policy = loading.load_policy(folder, compute="bfloat16", trained=True, ranks=among)
    ids = np.array((AutoTokenizer.from_pretrained(folder)(TEXT * 9).input_ids)[:PROBE_TOKENS], dtype=np.int32)
    size = 2 * sum(parameter.numel() for parameter in policy.parameters())
    settings = EngineSettings(dtype="bfloat16")
    engine = VllmEngine(model_files.from_path(folder), settings, 2, 256, Tokens(ids, ids > 0), among)
    own = psutil.Process()
    processes = [own, *own.children(recursive=True)]
    print(f"weights {size / 1e6:.1f} MB in {len(list(policy.parameters()))} tensors\n")
    print(f"| transfer | {' | '.join(COLUMNS)} | CPU s | wall s |\n|{'---|' * (len(COLUMNS) + 3)}")
    spent = []
    try:
        for number in range(1, repeats + 1):
            change(policy)
            before, began = look(processes), time.perf_counter()
            moved = engine.update(policy)
            wall, after = time.perf_counter() - began, look(processes)
            after.subtract(before)
            after["socket"] = moved
            cells = [f"{after[name] / size:.3f}" for name in COLUMNS]
            spent.append(float(after["cpu"]))
            print(f"| {number} | {' | '.join(cells)} | {after['cpu']:.2f} | {wall:.2f} |", flush=True)
    finally:
        engine.close()
    low, high = min(spent), max(spent)
    print(f"\nmedian {statistics.median(spent):.2f} CPU s ({low:.2f}–{high:.2f}); torch {torch.__version__}", end="")
    print(f", Python {platform.python_version()}")


def main() -> None:
    """Reads the command line and measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of a causal language model with its tokenizer")
    parser.add_argument("--repeats", type=int, default=5)
    order = parser.parse_args()
    with ranks("cpu") as among:
        measure(order.folder, order.repeats, among)


if __name__ == "__main__":
    main()
