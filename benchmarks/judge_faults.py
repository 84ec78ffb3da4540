"""Counts requests and costs while a judge fails in every way and its client is killed three times.

    python benchmarks/judge_faults.py

805 questions go to the tests' own server on the loopback. Every fifth meets a fault first (429, 500, 503, 408, 409, half an
answer, a dropped connection, a stall, no JSON, Retry-After), and the judging process is killed with SIGKILL after about 150,
350 and 550 good answers. Prints one Markdown row per measure; ends with exit code 1 unless every question has one stored answer
and no more were asked twice than were in flight at a kill.
"""

from __future__ import annotations

import argparse
import importlib.util
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tulu_eval.judging.budget import Budget
from tulu_eval.judging.cache import Cache
from tulu_eval.judging.endpoint_judge import HttpJudge
from tulu_eval.judging.judge import JudgeJob, judge_pairs
from tulu_eval.judging.judge_recipe import JudgeRecipe, Message, Pair

QUESTIONS, EVERY, CONCURRENCY = 805, 5, 8
KILLED_AFTER = (150, 350, 550)
FAULTS = {
    "<a>": ["429", "429"], "<b>": ["500", "503"], "<c>": ["408", "409"], "<d>": ["half"], "<e>": ["drop"], "<f>": ["stall"],
    "<g>": ["not json"], "<h>": ["429 after 0.1"],
}  # fmt: skip


def mark(place: int) -> str:
    """Returns the word in a question by which the server knows its fault; empty for most."""
    return list(FAULTS)[place // EVERY % len(FAULTS)] if place % EVERY == 0 else ""


def judge(url: str, cache_path: Path) -> int:
    """Judges all pairs that the cache does not have; returns how many it had."""
    parameters: dict[str, Any] = {"max_tokens": 1, "temperature": 1, "logprobs": True, "top_logprobs": 5}
    template = (Message("user", "{instruction}: m {output_1} or M {output_2}?"),)
    recipe = JudgeRecipe("loopback", "logprobs", template, "0" * 64, parameters)
    pairs = [Pair(f"pair-{at}", f"question {at}", "baseline", f"output {mark(at)}") for at in range(QUESTIONS)]
    with Cache(cache_path) as cache:
        endpoint = HttpJudge(url, concurrency=CONCURRENCY, timeout=1.5, first_wait=0.05)
        found = judge_pairs(pairs, JudgeJob(recipe, cache, Budget()), endpoint)
    if found.counts["judged"] != QUESTIONS:
        raise SystemExit(f"not all were judged: {found}")
    return found.cached


def killed(url: str, cache: Path, server: Any, after: int) -> None:
    """Runs the judging in a process of its own and kills it."""
    child = subprocess.Popen([sys.executable, __file__, "--url", url, "--cache", str(cache)])
    while server.served.total() < after and child.poll() is None:
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.wait()


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--cache", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.url:
        judge(options.url, options.cache)
        return 0
    path = Path(__file__).resolve().parent.parent / "tests" / "loopback.py"
    spec = importlib.util.spec_from_file_location("loopback", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} cannot be read")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with tempfile.TemporaryDirectory() as folder, module.Loopback(FAULTS, delay=0.01) as server:
        cache = Path(folder) / "judge.jsonl"
        for after in KILLED_AFTER:
            killed(server.url, cache, server, after)
        found = judge(server.url, cache)
        stored = len(cache.read_text().splitlines())
    planned = sum(len(FAULTS[mark(at)]) for at in range(0, QUESTIONS, EVERY))
    twice = server.served.total() - QUESTIONS
    print("| measure | value |")
    print("|---|---|")
    print(f"| questions | {QUESTIONS} |")
    print(f"| requests needed: one answer each, and {planned} faults | {QUESTIONS + planned} |")
    print(f"| requests served | {server.requests.total()} |")
    print(f"| good answers served | {server.served.total()} |")
    print(f"| of these for questions that were in flight at one of {len(KILLED_AFTER)} kills | {twice} |")
    print(f"| answers stored | {stored} |")
    print(f"| of these found again by the last process | {found} |")
    return 0 if stored == QUESTIONS and twice <= len(KILLED_AFTER) * CONCURRENCY else 1


if __name__ == "__main__":
    sys.exit(main())
