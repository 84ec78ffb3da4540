"""How long the sandbox takes: HumanEval's 164 canonical solutions, each 20 times, and programs that loop, apart.

    .venv/bin/python benchmarks/sandbox.py --data HumanEval.jsonl.gz

Wall-clock seconds depend on what else the machine does; ``perf stat -e task-clock`` before the command gives CPU seconds.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from pathlib import Path

from tulu_eval import files
from tulu_eval.sandbox import Limits, run_programs

LOOPS = 8


def main() -> None:
    """Runs both and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="HumanEval.jsonl.gz")
    parser.add_argument("--samples", type=int, default=20, help="how often each solution runs")
    given = parser.parse_args()
    programs = [
        f"{row.text('prompt')}{row.text('canonical_solution')}\n{row.text('test')}\ncheck({row.text('entry_point')})"
        for row in files.json_rows(given.data, ("prompt", "canonical_solution", "test", "entry_point"))
    ] * given.samples
    cores = len(os.sched_getaffinity(0))
    began = time.perf_counter()
    found = Counter(outcome.ending for outcome in run_programs(programs))
    seconds = time.perf_counter() - began
    each = 1000 * seconds / len(programs)
    print(f"{len(programs)} solutions in {seconds:.1f} s on {cores} cores, {each:.0f} ms each: {dict(found)}")
    began = time.perf_counter()
    found = Counter(outcome.ending for outcome in run_programs(["while True: pass"] * LOOPS))
    seconds = time.perf_counter() - began
    print(f"{LOOPS} loops in {seconds:.1f} s, at best {LOOPS / cores * Limits().seconds:.0f}: {dict(found)}")


if __name__ == "__main__":
    main()
