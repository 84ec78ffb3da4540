"""Run by tests as a program: a rank that sums a number with the others, again and again, under a watchdog.

Arguments: seconds of the watchdog, seconds of a step. It says ``step N`` after each sum.
"""

from __future__ import annotations

import os
import signal
import sys
import time

import torch
import torch.distributed as dist

from tulu_eval.errors import UserError
from tulu_eval.training import parallel
from tulu_eval.training.watching import watchdog


def main() -> None:
    seconds, pause = map(float, sys.argv[1:3])
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: asked.append(number))
    with watchdog.watching(seconds) as watch, parallel.ranks("cpu"):
        for step in range(1, int(sys.argv[3]) + 1):
            watch.begin(step - 1)
            dist.all_reduce(torch.ones(1))
            print(f"step {step}\n", end="", flush=True)  # one write, because the ranks share a pipe
            if asked:
                break
            time.sleep(pause)
            if (
                len(sys.argv) > 4
                and os.environ["RANK"] == "1"
                and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
                and step == 2
            ):
                os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"tulu-eval: {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)
