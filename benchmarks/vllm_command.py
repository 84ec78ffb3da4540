"""The whole command, engine start included: ``tulu-eval run gsm8k --backend vllm`` against lm-eval's ``vllm`` model.

Both get the same model folder, the same prompts as text (lm-eval as a local task whose documents are the rendered prompts), 512
new tokens, greedy, the same dtype and longest row; each is a process in its own environment, as a user starts it, in turn.
lm-eval runs vLLM with its own defaults and again with ``enforce_eager``, which is what tulu-eval chooses on a CPU. One run of
each goes first and is not counted: compiled code and converted files are then in the caches.

    python benchmarks/vllm_command.py --data test.jsonl --items 64 --peer-python .venv-peers/bin/python
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tulu_eval.backends.base import EngineSettings
from tulu_eval.backends.vllm.settings import cpu_cache_gib
from tulu_eval.benchmarks.gsm8k import GSM8K, Item
from tulu_eval.benchmarks.gsm8k_data import read_rows
from tulu_eval.models.base import ModelFiles
from tulu_eval.models.tokenizer import PromptWriter, load_tokenizer

PEER = Path(__file__).with_name("peer_lm_eval.py")
NEW_TOKENS = 512
"""As GSM8K's protocol has it."""

TASK = """\
task: rendered
dataset_path: json
dataset_kwargs:
  data_files:
    test: {documents}
test_split: test
output_type: generate_until
doc_to_text: "{{{{prompt}}}}"
doc_to_target: "{{{{target}}}}"
target_delimiter: ""
generation_kwargs:
  until: []
  max_gen_toks: {new_tokens}
  do_sample: false
metric_list:
  - metric: exact_match
"""


def write_task(folder: Path, model: ModelFiles, data: Path, items: int) -> int:
    """Writes lm-eval's task with the rendered prompts of the first items; returns the longest row in tokens."""
    writer = PromptWriter(load_tokenizer(model.path, model.name, False), tulu=False)
    rows = read_rows(data)[:items]
    rendered = [GSM8K().render(Item(str(at), question, target)) for at, (question, target) in enumerate(rows)]
    texts = [writer.text(one.user, one.prefill, one.plain) for one in rendered]
    documents = folder / "documents.jsonl"
    lines = (json.dumps({"prompt": text, "target": target}) for text, (_, target) in zip(texts, rows, strict=True))
    documents.write_text("\n".join(lines) + "\n")
    (folder / "rendered.yaml").write_text(TASK.format(documents=documents, new_tokens=NEW_TOKENS))
    return max(map(len, writer.encode(texts))) + NEW_TOKENS


def seconds_of(command: list[str], environment: dict[str, str]) -> float:
    """Runs a command and returns its seconds.

    Raises:
        SystemExit: It failed; its output ends the message.
    """
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})
    if done.returncode:
        sys.exit(f"{' '.join(command[:4])} failed:\n{done.stdout[-1000:]}{done.stderr[-3000:]}")
    return time.perf_counter() - began


def commands(order: argparse.Namespace, model: ModelFiles, folder: Path, longest: int) -> dict[str, list[str]]:
    """Returns the commands that are compared, by name; the first is ours."""
    ours = [sys.executable, "-m", "tulu_eval", "run", "gsm8k", "--protocol", "full", "--backend", "vllm", "--fresh", "--quiet",
            "--model", str(model.path), "--data", str(order.data), "--limit", str(order.items),
            "--output", str(folder / "runs")]  # fmt: skip
    arguments = f"pretrained={model.path},dtype={model.dtype},max_model_len={longest},max_gen_toks={NEW_TOKENS}"
    peer = [str(order.peer_python), str(PEER), "cli", "run", "--model", "vllm", "--tasks", "rendered", "--batch_size", "auto",
            "--include_path", str(folder), "--output_path", str(folder / "lm-eval"), "--log_samples"]  # fmt: skip
    return {
        "tulu-eval": ours,
        "lm-eval vllm": [*peer, "--model_args", arguments],
        "lm-eval vllm, enforce_eager": [*peer, "--model_args", f"{arguments},enforce_eager=True"],
    }


def main() -> None:
    """Measures in turn and prints the table."""
    from tulu_eval.models.resolve import resolve
    from tulu_eval.registry import load_suite

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct", help="hub id, folder, GGUF file or registry name")
    parser.add_argument("--data", type=Path, required=True, help="GSM8K test rows, one JSON object a line")
    parser.add_argument("--items", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peer-python", type=Path, required=True, help="Python of the peer's environment")
    parser.add_argument("--json", type=Path, help="write what was measured to this file, for benchmarks/plot.py")
    order = parser.parse_args()
    model, _ = resolve(order.model, load_suite())
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        longest = write_task(folder, model, order.data, order.items)
        cache = {"VLLM_CPU_KVCACHE_SPACE": str(cpu_cache_gib(model, EngineSettings(), longest)), "HF_HUB_OFFLINE": "1"}
        for repeat in range(order.repeats + 1):
            plan = list(commands(order, model, folder, longest).items())
            for engine, command in plan if repeat % 2 else reversed(plan):
                seconds = seconds_of(command, cache)
                if repeat:
                    found.setdefault(engine, []).append(seconds)
                print(f"{engine}: {seconds:.1f} s{'' if repeat else ' (not counted)'}", file=sys.stderr)
    if order.json:
        order.json.write_text(json.dumps(found))
    print("| command | seconds, median (min–max) | over tulu-eval's |\n|---|---|---|")
    for engine, seconds in sorted(found.items(), key=lambda pair: pair[0] != "tulu-eval"):
        ratios = [theirs / ours for theirs, ours in zip(seconds, found["tulu-eval"], strict=True)]
        print(
            f"| {engine} | {statistics.median(seconds):.1f} ({min(seconds):.1f}–{max(seconds):.1f}) "
            f"| {statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f}) |"
        )
    print(f"\n{order.model}, {order.items} items, up to {NEW_TOKENS} new tokens, {order.repeats} repetitions, in turn.")


if __name__ == "__main__":
    main()
