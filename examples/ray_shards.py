"""One run in several Ray tasks, each with its own part of the items, and their results put together.

    ray job submit -- python examples/ray_shards.py 7 --gpus 1 -- gsm8k --protocol full -m ORG/NAME -o /shared/results

Everything after the second ``--`` goes to ``tulu-eval run``. Results lie on a file system that all nodes see. A task whose node
is lost is started again by Ray, and goes on where it stopped. Ray only starts the processes: none of them talks to another.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import ray


def run_shard(words: list[str], part: int, parts: int) -> str:
    """Runs one shard and returns its folder."""
    command = [sys.executable, "-m", "tulu_eval", "run", *words, "--shard", f"{part}/{parts}", "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return str(json.loads(done.stdout)[0]["folder"])


def main() -> None:
    """Starts a task for each shard, waits for all, and merges."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=int)
    parser.add_argument("--gpus", type=float, default=1, help="of each shard")
    parser.add_argument("--cpus", type=float, default=4, help="of each shard")
    parser.add_argument("words", nargs="+", help="what 'tulu-eval run' takes; one benchmark")
    order = parser.parse_args()
    ray.init()
    task = ray.remote(run_shard).options(num_gpus=order.gpus, num_cpus=order.cpus, max_retries=3)
    parts = range(1, order.shards + 1)
    folders = ray.get([task.remote(order.words, part, order.shards) for part in parts])
    run_folder = Path(folders[0]).parent.parent
    sys.exit(subprocess.run([sys.executable, "-m", "tulu_eval", "merge", str(run_folder)], check=False).returncode)


if __name__ == "__main__":
    main()
