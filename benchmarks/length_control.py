"""Times one length-controlled win rate and its bootstrap beside alpaca_eval's own, on the same rows, and compares the numbers.

    python benchmarks/length_control.py ANNOTATIONS.json DF_GAMED.csv

Prints one Markdown row per measure; medians of processor time on one thread. Ends with exit code 1 unless the numbers agree
within 1e-9, one LC is at least 2.5 times faster, and 1000 bootstrap draws take less than 5 s.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path


def median_seconds(calls: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Returns the median processor seconds of each call, one warm-up left out; the calls take turns, so load hits all alike."""
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats + 1):
        for call, times in zip(calls, seconds, strict=True):
            started = time.process_time()
            call()
            times.append(time.process_time() - started)
    return [statistics.median(times[1:]) for times in seconds]


def seed_hub(gamed: Path, home: Path) -> None:
    """Puts the gamed rows where alpaca_eval looks for them, so that it runs without a network."""
    repository = home / "hub" / "datasets--tatsu-lab--alpaca_eval"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "df_gamed.csv").write_bytes(gamed.read_bytes())
    os.environ.update({"HF_HOME": str(home), "HF_HUB_OFFLINE": "1"})


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("annotations", type=Path)
    parser.add_argument("gamed", type=Path)
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})  # read when numpy is first imported, below
    from tulu_eval.judging.annotations import read_annotations
    from tulu_eval.judging.gamed import load_gamed
    from tulu_eval.judging.judged import from_annotations
    from tulu_eval.judging.numbers import results
    from tulu_eval.judging.session import score_files
    from tulu_eval.judging.win_rates import Scoring, arrays
    from tulu_eval.runs.judged_check import read_judged
    from tulu_eval.runs.rescored import keep
    from tulu_eval.stats import length_control

    gamed = load_gamed(options.gamed)
    rows = arrays(from_annotations(read_annotations(options.annotations)), gamed)
    with tempfile.TemporaryDirectory() as home, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seed_hub(options.gamed, Path(home))
        import pandas as pd
        from alpaca_eval.metrics import get_length_controlled_winrate

        frame = pd.read_json(options.annotations)

        def theirs() -> float:
            return float(get_length_controlled_winrate(frame.copy(), save_weights_dir=None)["length_controlled_winrate"])

        def ours() -> float:
            return length_control.fit(rows, gamed.gamed, "stable").value

        error = abs(ours() - theirs())
        slow, fast = median_seconds((theirs, ours), options.repeats)
    point = length_control.fit(rows, gamed.gamed)
    started = time.process_time()
    length_control.bootstrap(rows, gamed.gamed, point.c, draws=1000)
    bootstrap = time.process_time() - started
    with tempfile.TemporaryDirectory() as root:
        scored = score_files(options.annotations, None, Scoring(options.gamed))
        folder = keep(Path(root), options.annotations, scored, results(scored.score))
        started = time.process_time()
        read_judged(folder)
        reading = time.process_time() - started
    print("| measure | value |")
    print("|---|---|")
    print(f"| alpaca_eval, one LC | {1000 * slow:.1f} ms |")
    print(f"| tulu-eval, one LC, same folds, solver and seeds | {1000 * fast:.1f} ms |")
    print(f"| ratio | {slow / fast:.2f} |")
    print(f"| difference of the two numbers | {error:.1e} |")
    print(f"| 1000 bootstrap draws, refitted | {bootstrap:.2f} s |")
    print(f"| a judged folder read, all of it computed again | {reading:.2f} s |")
    return 0 if error < 1e-9 and slow >= 2.5 * fast and bootstrap < 5 else 1


if __name__ == "__main__":
    sys.exit(main())
