"""What one engine for several checkpoints saves: the same checkpoints through one vLLM engine, and through one engine each.

Checkpoints are made from one model by adding a little noise to its weights, so that they differ in nothing else. Both ways run
the same items of GSM8K through ``tulu-eval run``'s own code; completions have to be equal.

    python benchmarks/checkpoints.py --data test.jsonl --checkpoints 3 --items 16
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tulu_eval.backends.base import EngineSettings
from tulu_eval.models.base import ModelFiles
from tulu_eval.models.resolve import resolve
from tulu_eval.registry import load_suite
from tulu_eval.runs.order import Order
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.run_plan import Plan, make_plan
from tulu_eval.runs.runner import execute_all
from tulu_eval.store import manifest as files
from tulu_eval.store.ledger import Ledger
from tulu_eval.store.sample_line import timeless

NOISE = 0.01
"""Standard deviation of the noise, as a fraction of that of the tensor it is added to."""


def make_checkpoint(model: ModelFiles, seed: int, folder: Path) -> Path:
    """Writes a copy of a model with noise on its weights; returns its folder."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(model.path, folder)
    generator = torch.Generator().manual_seed(seed)
    for file in folder.glob("*.safetensors"):
        tensors = load_file(file)
        for name, tensor in tensors.items():
            noise = torch.randn(tensor.shape, generator=generator) * tensor.float().std() * NOISE
            tensors[name] = (tensor.float() + noise).to(tensor.dtype)
        save_file(tensors, file, metadata={"format": "pt"})
    return folder


def plans_of(folders: Sequence[Path], data: Path, items: int, new: int, output: Path) -> list[Plan]:
    """Returns a plan for each checkpoint, with answers of at most ``new`` tokens."""
    orders = [
        Order("gsm8k", str(folder), data=data, limit=items, backend="vllm", settings=EngineSettings(), output=output)
        for folder in folders
    ]
    plans = [make_plan(order, load_suite()) for order in orders]
    return [dataclasses.replace(plan, decoding=dataclasses.replace(plan.decoding, max_new_tokens=new)) for plan in plans]


def samples(folder: Path) -> list[bytes]:
    """Returns a run's samples without their times, in one order."""
    with Ledger(folder / files.LEDGER, read_only=True) as ledger:
        return sorted(timeless(line) for line in ledger.lines())


def main() -> None:
    """Runs both ways and prints the comparison as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct", help="hub id, folder, GGUF file or registry name")
    parser.add_argument("--data", type=Path, required=True, help="GSM8K test rows, one JSON object a line")
    parser.add_argument("--checkpoints", type=int, default=3)
    parser.add_argument("--items", type=int, default=16)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    order = parser.parse_args()
    model, _ = resolve(order.model, load_suite())
    progress = Progress(terminal=False)
    with tempfile.TemporaryDirectory(prefix="tulu-eval-checkpoints-") as place:
        root = Path(place)
        folders = [make_checkpoint(model, seed, root / f"step-{seed}") for seed in range(1, order.checkpoints + 1)]
        size = (order.items, order.max_new_tokens)
        apart = plans_of(folders, order.data, *size, root / "apart")
        began = time.perf_counter()
        each = [execute_all([plan], progress)[0] for plan in apart]
        seconds_apart = time.perf_counter() - began
        began = time.perf_counter()
        shared = execute_all(plans_of(folders, order.data, *size, root / "shared"), progress)
        seconds_shared = time.perf_counter() - began
        lines = ["| | start or change of weights, s | all, s |", "|---|---|---|"]
        for name, outcomes, seconds in (("engine each", each, seconds_apart), ("one engine", shared, seconds_shared)):
            starts = [files.read_manifest(one.folder).sessions[-1].load_seconds or 0.0 for one in outcomes]
            lines.append(f"| {name} | {', '.join(f'{start:.1f}' for start in starts)} | {seconds:.1f} |")
        engines = [files.read_manifest(one.folder).engine for one in shared]
        prints = [f"{one['fingerprint_before']} -> {one['fingerprint']}" for one in engines if "fingerprint" in one]
        total = order.items * order.checkpoints
        equal = sum(len(set(samples(one.folder)) & set(samples(other.folder))) for one, other in zip(each, shared, strict=True))
    print("\n".join(lines))
    print(f"\n{order.model}, {order.checkpoints} checkpoints, {order.items} items each, up to {size[1]} new tokens.")
    print(f"Saved: {seconds_apart - seconds_shared:.1f} s. Equal samples: {equal} of {total}.")
    print(f"Fingerprints: {'; '.join(prints)}.")


if __name__ == "__main__":
    main()
