"""What tulu-eval itself costs: everything of a run that is neither engine start nor generation.

    python benchmarks/overhead.py --data ../shared/data/gsm8k/test.jsonl

An engine that answers at once stands in for a real one; items, prompts, tokenizer (SmolLM2's), ledger, grading and result are
the real ones. Prints Markdown: seconds and memory by number of items, start-up of the command line, and a ledger of a million
samples opened, resumed and scored.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tulu_eval.records import Completion
from tulu_eval.testing import ScriptedBackend

TEXT = " She has 16 - 3 - 4 = 9 eggs left. So she makes 9 * 2 = $18 every day at the market. So the answer is 18."
TOKENS = tuple(range(100, 191))
"""91 tokens: the mean of GSM8K's own solutions."""


INSTANT = ScriptedBackend.of(
    lambda request, decoding: Completion(request.key, TEXT, TOKENS, "stop", 0.0),
    name="transformers",
    described={"engine": "answers at once"},
)
"""Answers every request at once with the same solution."""


def peak_mib() -> float:
    """Returns the largest resident size of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def harness(items: int, data: Path) -> None:
    """Runs ``items`` items in this process and prints ``seconds plan, seconds run, MiB over the imports``."""
    from tulu_eval.registry import load_suite
    from tulu_eval.runs.order import Order
    from tulu_eval.runs.progress import Progress
    from tulu_eval.runs.run_plan import make_plan
    from tulu_eval.runs.runner import execute

    make_plan(Order("gsm8k", "smollm2-135m-instruct", data=data, limit=1, backend="transformers"), load_suite())  # imports
    before = peak_mib()
    with tempfile.TemporaryDirectory() as folder:
        order = Order("gsm8k", "smollm2-135m-instruct", "full", data, limit=items, backend="transformers", output=Path(folder))
        began = time.perf_counter()
        plan = dataclasses.replace(make_plan(order, load_suite()), backend=INSTANT)
        planned = time.perf_counter()
        execute(plan, Progress(quiet=True))
        print(planned - began, time.perf_counter() - planned, peak_mib() - before)


def million(samples: int) -> None:
    """Writes a ledger of many samples, then opens, resumes and scores it; prints seconds of each and MiB."""
    from tulu_eval.benchmarks.gsm8k import GSM8K
    from tulu_eval.runs.grading import Grader
    from tulu_eval.runs.scoring import write_rows
    from tulu_eval.store.ledger import Ledger
    from tulu_eval.store.manifest_schema import Manifest
    from tulu_eval.store.sample_line import Sample, encode
    from tulu_eval.store.setup_schema import (
        StoredBenchmark,
        StoredDecoding,
        StoredModel,
        StoredSettings,
        StoredTemplate,
        stored,
        stored_protocol,
    )

    benchmark, recipe = GSM8K(), GSM8K.protocols["custom"]
    grader = Grader(benchmark)
    items = tuple(f"row-{n}" for n in range(samples))
    manifest = Manifest(
        model=StoredModel(name="m", revision="r", tokenizer_sha256="t", parameters=0),
        benchmark=StoredBenchmark(name="gsm8k", version=2),
        settings=StoredSettings(quantization="", adapter=""),
        protocol=stored_protocol(recipe),
        template=StoredTemplate(form="tulu", sha256="t"),
        decoding=stored(recipe.decoding, StoredDecoding),
        eos_ids=(1,), backend="transformers", dtype="float32", format=1, settings_sha256="", seed=0, limit=None,
        items={"custom": items}, planned=items, engine={}, packages={"tulu-eval": "1"}, machine={}, sessions=(), commit="",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "samples.jsonl"
        with path.open("wb") as file:
            for number in range(samples):
                completion = Completion(f"{number:064x}", TEXT, TOKENS, "stop", 0.1)
                file.write(encode(grader.grade(Sample(f"row-{number}", "18", "a" * 64, completion, "ok", ()))))
        size = path.stat().st_size
        before = peak_mib()
        began = time.perf_counter()
        with Ledger(path) as ledger:
            opened = time.perf_counter()
            missing = sum(not ledger.has(f"{number:064x}", f"row-{number}") for number in range(samples))
            resumed = time.perf_counter()
            write_rows(Path(folder), manifest, benchmark, ledger.lines())
        scored = time.perf_counter()
        print(opened - began, resumed - opened, scored - resumed, peak_mib() - before, size / 1e9, missing)


def in_child(*words: str) -> list[float]:
    """Runs this script with ``words`` in a process of its own; returns the numbers that it prints."""
    done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, check=True)
    return [float(word) for word in done.stdout.split()]


def medians(measure: Callable[[], list[float]], repeats: int) -> list[float]:
    """Returns the median of each number over some calls."""
    return [statistics.median(column) for column in zip(*(measure() for _ in range(repeats)), strict=True)]


def command_seconds(*words: str) -> list[float]:
    """Returns the wall-clock seconds of one command."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *words], capture_output=True, check=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""})
    return [time.perf_counter() - began]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/gsm8k/test.jsonl"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        harness(int(given.child[1]), given.data) if given.child[0] == "harness" else million(int(given.child[1]))
        return
    print("| items | plan, s | run without engine, s | together, s | memory, MiB |\n|---:|---:|---:|---:|---:|")
    for items in (32, 128, 512, 1319):
        words = ("--data", str(given.data), "--child", "harness", str(items))
        plan, run, memory = medians(lambda words=words: in_child(*words), given.repeats)  # type: ignore[misc]
        print(f"| {items} | {plan:.2f} | {run:.2f} | {plan + run:.2f} | {memory:.0f} |")
    empty = medians(lambda: command_seconds("-c", ""), 9)[0]
    for name, words in {
        "tulu-eval --help": ("-m", "tulu_eval", "--help"),
        "import tulu_eval": ("-c", "import tulu_eval"),
    }.items():
        seconds = medians(lambda words=words: command_seconds(*words), 9)[0]  # type: ignore[misc]
        print(f"\n`{name}`: {1000 * seconds:.0f} ms, of which {1000 * empty:.0f} ms are an empty Python")
    opened, resumed, scored, memory, size, missing = in_child("--child", "million", str(given.samples))
    print(
        f"\nA ledger of {given.samples:,} samples ({size:.1f} GB): opened in {opened:.1f} s, resumed in {resumed:.1f} s, "
        f"scored in {scored:.1f} s, {memory:.0f} MiB; {missing:.0f} samples missing"
    )


if __name__ == "__main__":
    main()
