"""Generation speed on GSM8K 8-shot prompts: the transformers backend against lm-eval's ``hf`` model, in one run, in turn.

Same model folder, prompts (checked: the same token ids), dtype, batch size and token limit. Every repetition of every engine
is a process of its own; loading is timed apart, and seconds are those of generation alone (tokenisation included).

    python benchmarks/gsm8k_throughput.py --data test.jsonl --items 32 --max-new-tokens 256 --peer-python .venv-peers/bin/python
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

from tulu_eval.backends.base import EngineSettings
from tulu_eval.benchmarks.gsm8k import GSM8K, Item
from tulu_eval.benchmarks.gsm8k_data import read_rows
from tulu_eval.models.base import ModelFiles
from tulu_eval.models.tokenizer import PromptWriter, load_tokenizer
from tulu_eval.records import Decoding, Request

ENGINES = ("tulu-eval", "lm-eval hf")
PEER = Path(__file__).with_name("peer_lm_eval.py")


@dataclasses.dataclass(frozen=True, slots=True)
class Measured:
    """One repetition of one engine.

    Attributes:
        engine: One of :data:`ENGINES`.
        load: Seconds to load the model.
        seconds: Seconds from prompts to the last completion.
        tokens: Tokens generated, up to each row's end token.
        texts: What was generated.
        note: What the engine says about itself.
    """

    engine: str
    load: float
    seconds: float
    tokens: int
    texts: list[str]
    note: str


def prompts(writer: PromptWriter, data: Path, items: int) -> list[str]:
    """Returns the first prompts of a data file, as the protocol renders them for this tokenizer."""
    rendered = [
        GSM8K().render(Item(str(at), question, target)) for at, (question, target) in enumerate(read_rows(data)[:items])
    ]
    return [writer.text(one.user, one.prefill, one.plain) for one in rendered]


def run_ours(model: ModelFiles, writer: PromptWriter, texts: list[str], order: argparse.Namespace) -> Measured:
    """Generates with the transformers backend."""
    from tulu_eval.backends.hf.backend import TransformersBackend

    settings = EngineSettings(dtype=order.dtype, device=order.device, batch_size=order.batch_size)
    longest = max(map(len, writer.encode(texts))) + order.max_new_tokens
    began = time.perf_counter()
    with TransformersBackend.load(model, settings, writer.eos_ids(), longest) as backend:
        loaded = time.perf_counter()
        requests = [Request(str(at), ids, texts[at]) for at, ids in enumerate(writer.encode(texts))]
        done = {one.key: one for one in backend.generate(requests, Decoding(order.max_new_tokens))}
        ended = time.perf_counter()
        note = backend.describe()["attention"]
    tokens = sum(len(one.token_ids) for one in done.values())
    ordered = [done[str(at)].text for at in range(len(texts))]
    return Measured(ENGINES[0], loaded - began, ended - loaded, tokens, ordered, note)


def run_peer(model: ModelFiles, writer: PromptWriter, texts: list[str], order: argparse.Namespace) -> Measured:
    """Has lm-eval's ``hf`` model generate in its own environment.

    Raises:
        SystemExit: It failed; its output ends the message.
    """
    message = {
        "model": str(model.path),
        "texts": texts,
        "token_ids": [list(ids) for ids in writer.encode(texts)],
        "dtype": model.dtype if order.dtype == "auto" else order.dtype,
        "batch_size": order.batch_size,
        "device": order.device,
        "max_new_tokens": order.max_new_tokens,
    }
    command = [str(order.peer_python), str(PEER), "hf"]
    done = subprocess.run(command, input=json.dumps(message), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"lm-eval failed:\n{done.stderr[-2000:]}")
    return Measured(engine=ENGINES[1], note="left-padded batches", **json.loads(done.stdout.splitlines()[-1]))


def measure(engine: str, order: argparse.Namespace) -> Measured:
    """Runs one repetition of an engine in a process of its own.

    Raises:
        SystemExit: The process failed; its output ends the message.
    """
    command = [sys.executable, __file__, *sys.argv[1:], "--engine", engine]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{engine} failed:\n{done.stderr[-2000:]}")
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def table(found: dict[str, list[Measured]], order: argparse.Namespace) -> str:
    """Returns the comparison as Markdown."""
    lines = ["| engine | seconds, median (min–max) | tokens | tokens/s | load, s |", "|---|---|---|---|---|"]
    for engine, runs in found.items():
        seconds = [run.seconds for run in runs]
        median = statistics.median(seconds)
        rate = statistics.median(run.tokens / run.seconds for run in runs)
        load = statistics.median(run.load for run in runs)
        lines.append(
            f"| {engine} ({runs[0].note}) | {median:.1f} ({min(seconds):.1f}–{max(seconds):.1f}) "
            f"| {runs[0].tokens} | {rate:.0f} | {load:.1f} |"
        )
    ours, peer = (found[engine] for engine in ENGINES)
    ratios = [slow.seconds / fast.seconds for fast, slow in zip(ours, peer, strict=True)]
    equal = sum(a.strip() == b.strip() for a, b in zip(ours[0].texts, peer[0].texts, strict=True))
    packages = ("tulu-eval", "lm-eval", "torch", "transformers")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    lines += [
        "",
        f"lm-eval's seconds over tulu-eval's: {statistics.median(ratios):.1f} ({min(ratios):.1f}–{max(ratios):.1f}), "
        f"{len(ratios)} repetitions. Equal texts: {equal} of {len(ours[0].texts)}.",
        f"{order.model}, {order.items} items, up to {order.max_new_tokens} new tokens, batch size {order.batch_size}, "
        f"dtype {order.dtype}, device {order.device}.",
        f"{versions}; Python {platform.python_version()}, {processor()}, {os.cpu_count()} cores.",
    ]
    return "\n".join(lines)


def processor() -> str:
    """Returns the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    """Measures in turn and prints the table; with ``--engine`` (used by itself) one repetition, as a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct", help="hub id, folder, GGUF file or registry name")
    parser.add_argument("--data", type=Path, required=True, help="GSM8K test rows, one JSON object a line")
    parser.add_argument("--items", type=int, default=32)
    parser.add_argument("--max-new-tokens", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peer-python", type=Path, default=sys.executable, help="Python of the peer's environment")
    parser.add_argument("--json", type=Path, help="write what was measured to this file, for benchmarks/plot.py")
    parser.add_argument("--engine", choices=ENGINES, help=argparse.SUPPRESS)
    order = parser.parse_args()
    if order.engine:
        from tulu_eval.models.resolve import resolve
        from tulu_eval.registry import load_suite

        model, _ = resolve(order.model, load_suite())
        writer = PromptWriter(load_tokenizer(model.path, model.name, False), tulu=False)
        run = run_ours if order.engine == ENGINES[0] else run_peer
        print(json.dumps(dataclasses.asdict(run(model, writer, prompts(writer, order.data, order.items), order))))
        return
    found: dict[str, list[Measured]] = {engine: [] for engine in ENGINES}
    for repeat in range(order.repeats):
        for engine in ENGINES if repeat % 2 == 0 else reversed(ENGINES):
            found[engine].append(measure(engine, order))
            print(f"{engine}: {found[engine][-1].seconds:.1f} s", file=sys.stderr)
    if order.json:
        order.json.write_text(json.dumps({engine: [run.seconds for run in runs] for engine, runs in found.items()}))
    print(table(found, order))


if __name__ == "__main__":
    main()
