"""How well a cluster's engines are used, by simulation with the program's own dealer: up to 512 engines, and lost nodes.

    python benchmarks/cluster_simulation.py --results results --out benchmarks/cluster.svg

An engine decodes 64 requests together; each takes 0.1 s and 10 ms for each of its tokens, whose number is drawn from the
answers in real ledgers. An engine gets its next share when the last of a share is done, as here. Use is the share of the
engines' places in which a token is made until the last answer; the tail is the time after the first engine has its last answer,
as a share of the whole. ``hashed`` is how a vLLM backend on one machine deals to its ``--data-parallel`` engines: all at once,
by content. ``longest answers first`` is the queue with lengths that nobody knows before: what an order could gain at most.
Each figure is a mean over draws of the lengths and of the losses.
"""

from __future__ import annotations

import argparse
import hashlib
import heapq
import json
import math
import random
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from tulu_eval.backends.cluster.dealing import Dealer, Share
from tulu_eval.files import open_regular
from tulu_eval.records import Request

ROWS = 64
TOKEN_SECONDS = 0.01
PREFILL_SECONDS = 0.1
RESTART_SECONDS = 60.0
"""From the loss of a node until another engine is loaded in its place."""

DRAWS = 20

NAMES = ("hashed", "one queue", "longest answers first", "nodes lost")

Times = dict[str, float]


def token_counts(results: Path) -> list[int]:
    """Returns the numbers of generated tokens of all answers in the plain ledgers under a folder."""
    found = []
    for path in sorted(results.rglob("samples.jsonl")):
        with open_regular(path) as file:
            for line in file:
                sample = json.loads(line)
                if sample.get("token_ids") and "likelihoods" not in sample:
                    found.append(len(sample["token_ids"]))
    return found


def ends(share: Sequence[str], times: Times, start: float) -> Iterator[tuple[float, str]]:
    """Yields when each request of a share is done that an engine begins at ``start``; a free place takes the next one."""
    places = [start] * min(ROWS, len(share))
    for key in share:
        done = heapq.heappop(places) + times[key]
        heapq.heappush(places, done)
        yield done, key


def queued(times: Times, order: Sequence[Request], engines: int, mean_life: float, draw: random.Random) -> tuple[float, float]:
    """Returns use and tail of engines that are dealt shares of one queue, each lost after a random time unless it is 0."""
    dealer: Dealer[Request] = Dealer(order, engines)
    events: list[tuple[float, int, Share[Request] | None]] = [(0.0, number, None) for number in range(engines)]
    dies = [draw.expovariate(1 / mean_life) if mean_life else math.inf for _ in range(engines)]
    ended, waiting = [0.0] * engines, set[int]()
    while events:
        now, engine, lost = heapq.heappop(events)
        if lost is not None:  # its node is gone: the others go on with what it had, and it comes back later
            dealer.put_back(lost)
            dies[engine] = now + RESTART_SECONDS + draw.expovariate(1 / mean_life)
            for number in waiting:
                heapq.heappush(events, (now, number, None))
            waiting.clear()
            heapq.heappush(events, (now + RESTART_SECONDS, engine, None))
        elif dealer.empty:
            waiting.add(engine)
        else:
            share = dealer.deal()
            assert share is not None
            found = [(done, key) for done, key in ends(list(share.waiting), times, now) if done <= dies[engine]]
            for _, key in found:
                share.take_out(key)
            ended[engine] = max([ended[engine], *(done for done, _ in found)])
            heapq.heappush(events, (dies[engine], engine, share) if share.waiting else (ended[engine], engine, None))
    return sum(times.values()) / (engines * ROWS * max(ended)), 1 - min(ended) / max(ended)


def hashed(times: Times, order: Sequence[Request], engines: int) -> tuple[float, float]:
    """Returns use and tail of engines that are dealt everything at once, by a hash."""
    shares: list[list[str]] = [[] for _ in range(engines)]
    for request in order:
        shares[int.from_bytes(hashlib.sha256(request.key.encode()).digest()[:8], "big") % engines].append(request.key)
    last = [max((done for done, _ in ends(share, times, 0.0)), default=0.0) for share in shares]
    return sum(times.values()) / (engines * ROWS * max(last)), 1 - min(last) / max(last)


def orders(tokens: Sequence[int], items: int, draw: random.Random) -> tuple[Times, list[Request], list[Request]]:
    """Returns times by key, requests whose prompts say nothing of them, and requests with prompts as long as the answers."""
    lengths = [draw.choice(tokens) for _ in range(items)]
    times = {f"key-{number}": PREFILL_SECONDS + TOKEN_SECONDS * length for number, length in enumerate(lengths)}
    return (
        times,
        [Request(key, (0,), "") for key in times],
        [Request(key, (0,) * length, "") for key, length in zip(times, lengths, strict=True)],
    )


def simulated(tokens: Sequence[int], items: int, engines: int, mean_life: float) -> list[tuple[float, float]]:
    """Returns mean use and mean tail for each of the names."""
    found = []
    for seed in range(DRAWS):
        draw = random.Random(seed)
        times, plain, known = orders(tokens, items, draw)
        queues = [(plain, 0.0), (known, 0.0), (plain, mean_life)]
        found.append([hashed(times, plain, engines), *(queued(times, order, engines, life, draw) for order, life in queues)])
    return [
        (statistics.fmean(one[0] for one in column), statistics.fmean(one[1] for one in column))
        for column in zip(*found, strict=True)
    ]


def main() -> None:
    """Simulates, prints and draws."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "tulu-eval"  # the same figures give the same file
    from matplotlib import pyplot as plt

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--engines", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64, 128, 256, 512])
    parser.add_argument("--mean-life", type=float, default=3600.0, help="mean seconds until a node is lost")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    tokens = token_counts(given.results)
    mean = statistics.fmean(tokens)
    print(f"{given.items:,} items, tokens drawn from {len(tokens):,} answers, mean {mean:.0f}; means of {DRAWS} draws\n")
    print(f"| engines | ideal, s | {' | '.join(NAMES)} |")
    print("|---:|---:|---:|---:|---:|---:|")
    rows = []
    for engines in given.engines:
        rows.append(simulated(tokens, given.items, engines, given.mean_life))
        cells = " | ".join(f"{use:.0%}, tail {tail:.0%}" for use, tail in rows[-1])
        ideal = given.items * (PREFILL_SECONDS + TOKEN_SECONDS * mean) / engines / ROWS
        print(f"| {engines} | {ideal:,.0f} | {cells} |", flush=True)
    if given.out is None:
        return
    figure, axes = plt.subplots(1, 2, figsize=(8, 3), sharex=True)
    for place, (axis, title) in enumerate(zip(axes, ("use of the engines", "tail, of the whole time"), strict=True)):
        for number, name in enumerate(NAMES):
            line = "o--" if name == "nodes lost" else "o-"
            axis.plot(given.engines, [100 * row[number][place] for row in rows], line, markersize=3, label=name)
        axis.set_xscale("log", base=2)
        axis.set_ylim(0, 105)
        axis.set_title(title, loc="left", fontsize=10)
        axis.set_xlabel("engines")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("percent")
    axes[1].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(given.out, metadata={"Date": None})


if __name__ == "__main__":
    main()
