"""CPU seconds of commands that do little: everything is there, nothing is generated, or a name is wrong.

    python benchmarks/seconds.py --data test.jsonl --pairs pairs.jsonl [--before CHECKOUT]

Each command runs ``--repeats`` times after one that is not counted and leaves the modules compiled; with ``--before``, the
folder of another checkout, both take turns. A row has user and system seconds of the process and its children: the least, and
the median.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
RUNS = 11


def commands(given: argparse.Namespace, folder: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Yields what a command does, its target in seconds, and its words; makes the runs that it needs in ``folder``."""
    data, model, out = str(given.data), given.model, str(given.runs or folder / "results")
    run = ["run", "gsm8k", "--protocol", "full", "-m", model, "--data", data, "--limit", "3", "-o", out, "-q"]
    once(run, ROOT)
    yield "run gsm8k, all samples there", "2.0", run
    symbolic = ["run", "gsm-symbolic", "-m", model, "--limit", "6", "-o", out, "-q"]
    once(symbolic, ROOT)
    yield "run gsm-symbolic, all samples there", "2.0", symbolic
    yield "run gsm8k --dry-run (200 items)", "2.5", ["run", "gsm8k", "-m", model, "--data", data, "--dry-run"]
    plan = ["plan", "gsm8k", "--data", data, "-d", "5", "-m", "tulu-2-13b"]
    yield "plan, no model here", "1.2", [*plan, "tulu-2-dpo-13b"]
    yield "plan, one model here", "2.5", [*plan, model]
    train = ["train", "rm", "--recipe", "tiny", "-m", model, "--data", str(given.pairs), "--dry-run"]
    yield "train rm --dry-run", "2.5", train
    yield "train, unknown recipe", "0.3", ["train", "ppo", "--recipe", "nosuch", "--dry-run"]
    yield "run, unknown benchmark", "0.3", ["run", "nosuch", "-m", model]
    yield "run, unknown model", "0.3", ["run", "gsm8k", "-m", "nosuch"]
    some = folder / "some"
    for place, path in enumerate(sorted((ROOT / "results").rglob("manifest.json"))[:RUNS]):
        shutil.copytree(path.parent, some / f"{place}")
    yield f"report of {RUNS} runs", "1.0", ["report", "--results", str(some), "--output", str(folder / "x.html"), "-q"]
    yield "table of them", "-", ["table", "--results", str(some)]
    yield "doctor", "-", ["doctor"]


def once(words: list[str], checkout: Path) -> float:
    """Returns the CPU seconds of one call of a checkout's command line."""
    code = f"import sys; sys.path.insert(0, {str(checkout)!r}); from tulu_eval.cli import main; main()"
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": ""}
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 2):
        raise SystemExit(f"{' '.join(words)} ended with {process.returncode}")
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="GSM8K's test.jsonl")
    parser.add_argument("--pairs", type=Path, required=True, help="preference pairs for train rm")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--before", type=Path, help="folder of an older checkout")
    parser.add_argument("--runs", type=Path, help="folder for the two runs that are measured once they are there; kept")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="", help="only the commands whose description has this word")
    given = parser.parse_args()
    checkouts = [given.before, ROOT] if given.before else [ROOT]
    names = ["before", "after"] if given.before else ["seconds"]
    print(f"| command | target | {' | '.join(f'{name}: least (median)' for name in names)} |")
    print(f"|---|---|{'---|' * len(names)}")
    with tempfile.TemporaryDirectory() as folder:
        for what, target, words in commands(given, Path(folder)):
            if given.only not in what:
                continue
            for checkout in checkouts:
                once(words, checkout)
            taken = [[once(words, checkout) for checkout in checkouts] for _ in range(given.repeats)]
            cells = [f"{min(row):.2f} ({statistics.median(row):.2f})" for row in zip(*taken, strict=True)]
            print(f"| {what} | {target} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
