"""What a Ray cluster costs, and what it survives: two nodes on this machine, beside the same run without Ray.

    python benchmarks/cluster.py overhead            # 1,319 and 100,000 items, an engine that answers at once
    python benchmarks/cluster.py kills               # a node killed at ten random moments

Prints Markdown. Grading, ledger and result are the real ones; prompts have 100 tokens, and no two answers are the same text.
Each run has a process of its own, which imports Ray in the time that is measured.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from tulu_eval.backends.base import EngineSettings
from tulu_eval.backends.cluster import submission
from tulu_eval.benchmarks.base import Item
from tulu_eval.benchmarks.gsm8k import GSM8K
from tulu_eval.models.base import ModelFiles
from tulu_eval.models.end_tokens import EndToken, EndTokens
from tulu_eval.models.model_files import inspect
from tulu_eval.models.prompt_form import Template
from tulu_eval.records import Completion, Decoding, Request, content_hash
from tulu_eval.runs.order import Order
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.requests import Planned
from tulu_eval.runs.run_plan import Plan
from tulu_eval.runs.runner import execute
from tulu_eval.store.ledger import Ledger
from tulu_eval.testing import ScriptedBackend

TEXT = " She has {} - 3 - 4 = {} eggs left. So she makes {} * 2 = ${} every day at the market. So the answer is {}."
TOKENS = tuple(range(100, 191))
"""91 tokens: the mean of GSM8K's own solutions."""

NODE = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 80_000_000}


class Instant(ScriptedBackend):
    """Answers every request at once with a solution for the first token of its prompt."""

    name = "transformers"

    def answer(self, request: Request, decoding: Decoding) -> str | Completion:
        """Returns the solution."""
        eggs = request.token_ids[0]
        text = TEXT.format(eggs + 7, eggs, eggs, 2 * eggs, 2 * eggs)
        return Completion(request.key, text, TOKENS, "stop", 0.0)


class Slow(Instant):
    """Takes a twentieth of a second for each, so that a node's engine starts, loads and works between two kills."""

    def answer(self, request: Request, decoding: Decoding) -> str | Completion:
        """Returns the solution after a moment."""
        time.sleep(0.05)
        return super().answer(request, decoding)


class Watched(Progress):
    """Counts samples, notes this process's memory at each tenth, and calls ``act`` at some of the counts."""

    def __init__(self, total: int, act: Any = None, moments: Sequence[int] = ()) -> None:
        super().__init__(quiet=True)
        self.count, self.mib, self._every = 0, [0.0], max(1, total // 10)
        self._act, self._moments = act, set(moments)

    def sample(self, sample: Any) -> None:
        """Counts one."""
        self.count += 1
        if self.count % self._every == 0:
            self.mib.append(psutil.Process().memory_info().rss / 2**20)
        if self.count in self._moments:
            self._act()


class Losses(logging.Handler):
    """Keeps how many requests each lost engine had."""

    def __init__(self) -> None:
        super().__init__()
        self.had: list[int] = []
        logging.getLogger(submission.__name__).addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Takes the warning that a node is lost."""
        if isinstance(record.args, tuple) and "is lost" in record.msg:
            self.had.append(int(str(record.args[1])))


class TwoNodes:
    """A cluster of two nodes on this machine; the second can be killed and comes back."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        logging.getLogger("ray").setLevel(logging.CRITICAL)
        self._folder = tempfile.mkdtemp(prefix="tulu-eval-nodes-")
        os.environ["RAY_TMPDIR"] = self._folder  # for the cluster's address, which Ray writes to /tmp/ray, present or not
        head = {**NODE, "include_dashboard": False, "temp_dir": f"{self._folder}/ray"}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self.address: str = self._cluster.address
        self._second = self._cluster.add_node(**NODE)

    def kill(self) -> None:
        """Kills the second node with all its processes, and starts another."""
        self._cluster.remove_node(self._second, allow_graceful=False)
        self._second = self._cluster.add_node(**NODE)

    def stop(self) -> None:
        """Ends all processes."""
        self._cluster.shutdown()
        shutil.rmtree(self._folder, ignore_errors=True)


def made_model(folder: Path) -> ModelFiles:
    """Returns a model folder that can be looked at and not loaded."""
    import torch
    from safetensors.torch import save_file

    save_file({"lm_head.weight": torch.zeros(4, 4)}, folder / "model.safetensors")
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "max_position_embeddings": 2048}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    return inspect(folder, "made-up/model")


def plan_of(items: int, folder: Path, engine: type[ScriptedBackend], cluster: str | None) -> Plan:
    """Returns a plan of so many made-up items of GSM8K."""
    draw = random.Random(21)
    planned = []
    for number in range(items):
        ids = (number, *(draw.randrange(256) for _ in range(99)))
        planned.append(
            Planned(Item(f"row-{number}", f"row {number}", str(2 * number)), Request.of("s", ids, f"row {number}"), "a" * 64)
        )
    (folder / "model").mkdir(exist_ok=True)
    recipe = GSM8K().protocol("custom")
    settings = EngineSettings(device="cpu", cluster=cluster, data_parallel=0 if cluster else 1)
    output = folder / (cluster or "here").replace(":", "-") / str(items)
    return Plan(
        order=Order("gsm8k", "m", protocol="custom", backend="transformers", settings=settings, output=output),
        benchmark=GSM8K().under("custom"), protocol=recipe, model=made_model(folder / "model"),
        template=Template("tulu", content_hash("tulu"), "tokenizer"), decoding=recipe.decoding,
        end_tokens=EndTokens((EndToken(2, "</s>", ("tokenizer",)),)), backend=engine, dtype="float32",
        planned=tuple(planned), members={"custom": tuple(one.item.id for one in planned)}, data_sha256="d", items_sha256="d",
    )  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Cost:
    """What a whole run cost: seconds, seconds of its own process's CPU, and this process's growth after a tenth in MiB."""

    seconds: float
    cpu: float
    growth: float


def cost(items: int, cluster: str | None) -> Cost:
    """Returns the cost of a run without its plan."""
    with tempfile.TemporaryDirectory() as folder:
        plan, watched = plan_of(items, Path(folder), Instant, cluster), Watched(items)
        began, cpu = time.perf_counter(), time.process_time()
        execute(plan, watched)
        seconds, spent = time.perf_counter() - began, time.process_time() - cpu
    assert watched.count == items
    return Cost(seconds, spent, watched.mib[-1] - watched.mib[1])


def measured(items: int, cluster: str = "") -> Cost:
    """Returns the cost of a run in a process of its own."""
    words = [sys.executable, __file__, "cost", "--items", str(items), *(["--cluster", cluster] if cluster else [])]
    return Cost(**json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout))


def overhead(sizes: Sequence[int], repeats: int) -> None:
    """Prints the seconds with and without Ray, and the driver's memory."""
    cluster = TwoNodes()
    print("Growth: the driver's memory from a tenth of the items to all; in brackets without Ray.\n")
    print("| items | load | without Ray, s (CPU) | two nodes, s (driver's CPU) | more, s | items/s | growth, MiB |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    try:
        for size in [size for size in sizes for _ in range(repeats)]:
            alone, dealt = measured(size), measured(size, cluster.address)
            cells = [
                f"{os.getloadavg()[0]:.1f}",
                *(f"{one.seconds:.2f} ({one.cpu:.2f})" for one in (alone, dealt)),
                f"{dealt.seconds - alone.seconds:.2f}",
                f"{size / dealt.seconds:,.0f}",
                f"{dealt.growth:.0f} ({alone.growth:.0f})",
            ]
            print(f"| {size:,} | {' | '.join(cells)} |", flush=True)
    finally:
        cluster.stop()


def kills(number: int, items: int) -> None:
    """Prints what is lost and doubled if a node is killed at random moments of one run."""
    cluster = TwoNodes()
    moments = sorted(random.Random(21).sample(range(items // 20, items - items // 20), number))
    try:
        with tempfile.TemporaryDirectory() as folder:
            plan = plan_of(items, Path(folder), Slow, cluster.address)
            watched, losses = Watched(items, cluster.kill, moments), Losses()
            began = time.perf_counter()
            outcome = execute(plan, watched)
            seconds = time.perf_counter() - began
            with Ledger(outcome.folder / "samples.jsonl", read_only=True) as ledger:
                found = [sample.item for sample in ledger.samples()]
            lines = len((outcome.folder / "samples.jsonl").read_bytes().splitlines())
    finally:
        cluster.stop()
    missing, twice = items - len(set(found)), lines - len(set(found))
    print(f"{number} kills at samples {moments} of {items}, {seconds:.0f} s in all:")
    print(f"engines that were lost with their node had {losses.had} requests")
    print(f"{missing} lost, {twice} twice, {outcome.tally.failed} failed")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("overhead", "kills", "cost"))
    parser.add_argument("--sizes", type=int, nargs="+", default=(1319, 100_000))
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--items", type=int, default=3000)
    parser.add_argument("--cluster", help="of the one run whose cost is printed as JSON")
    given = parser.parse_args()
    if given.what == "overhead":
        overhead(given.sizes, given.repeats)
    elif given.what == "cost":
        print(json.dumps(dataclasses.asdict(cost(given.items, given.cluster))))
    else:
        kills(given.kills, given.items)


if __name__ == "__main__":
    main()
