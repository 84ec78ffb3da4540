"""One run in several Ray tasks, each with its own part of the items, and their results put together.

    ray job submit -- python examples/ray_shards.py 7 ORG/NAME --protocol full --output /shared/results

Results lie on a file system that all nodes see. A task whose node is lost is started again by Ray, and goes on where it
stopped. Ray only starts the processes: none of them talks to another.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import ray

import tulu_eval


def evaluate_shard(part: int, parts: int, what: dict[str, Any]) -> Path:
    """Evaluates one shard and returns its folder."""
    (run,) = tulu_eval.evaluate(**what, shard=(part, parts), progress=False)
    return run.folder


def main() -> None:
    """Starts a task for each shard, waits for all, and merges."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=int)
    parser.add_argument("model")
    parser.add_argument("--benchmark", default="gsm8k")
    parser.add_argument("--protocol")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--output", type=Path, default=Path("results"))
    parser.add_argument("--gpus", type=float, default=1, help="of each shard")
    parser.add_argument("--cpus", type=float, default=4, help="of each shard")
    order = parser.parse_args()
    data = order.data and order.data.resolve()  # tasks have working folders of their own
    what = {"benchmarks": order.benchmark, "models": order.model, "protocol": order.protocol, "data": data}
    what["output"] = order.output.resolve()
    ray.init()
    task = ray.remote(evaluate_shard).options(num_gpus=order.gpus, num_cpus=order.cpus, max_retries=3)
    parts = range(1, order.shards + 1)
    merged = tulu_eval.merge(ray.get([task.remote(part, order.shards, what) for part in parts]))
    print(tulu_eval.load_run(merged.folder))
    sys.exit(1 if merged.tally.failed else 0)


if __name__ == "__main__":
    main()
