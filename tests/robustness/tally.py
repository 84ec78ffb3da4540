"""Keeps tried cases and their outcomes as lines, so that a run of many hours can go on, and shows them as a table."""

from __future__ import annotations

import dataclasses
import json
import os
import random
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from tabulate import tabulate

CASES = 14_000
"""Distinct cases that ``make fuzz`` tries unless FUZZ_CASES says another number."""

SEED = 20261130
"""Seed of every draw unless FUZZ_SEED says another."""

KINDS = ("traceback", "hang", "silent", "lines")
"""Kinds of failure with a column of their own."""

Key = tuple[str, str, str, str]
"""Verb, file (or option, or surroundings), field, and kind of change: cases with the same key count once."""

Pair = TypeVar("Pair")


@dataclasses.dataclass(frozen=True, slots=True)
class Tried:
    """A case and its outcome.

    Attributes:
        key: Which it is.
        command: Whether it was a program of its own.
        wrong: What was wrong, by kind; ``skipped: why`` where it could not be tried; empty if nothing.
    """

    key: Key
    command: bool
    wrong: str = ""


class Tally:
    """All tried cases; the file ``path`` has those of an earlier run that this one continues."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.tried: dict[Key, Tried] = {one.key: one for one in read(path)} if path else {}
        self.before = frozenset(self.tried)

    def add(self, key: Key, wrong: str, *, command: bool = False) -> None:
        """Counts a case. A repeated key counts once, and a failure stays a failure."""
        if key in self.tried and not wrong:
            return
        one = self.tried[key] = Tried(key, command, wrong)
        if self.path:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(dataclasses.astuple(one)) + "\n")

    def failures(self, keys: Iterable[Key]) -> list[str]:
        """Returns a line for each of the cases that failed."""
        found = (self.tried[key] for key in keys if key in self.tried)
        return [f"{one.wrong}  <- {' | '.join(one.key)}" for one in found if one.wrong and not one.wrong.startswith("skipped")]


def read(*paths: Path) -> list[Tried]:
    """Returns what files of lines say; a half line that a killed run left is passed over."""
    found = []
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            if line.endswith("]"):
                key, command, wrong = json.loads(line)
                found.append(Tried(tuple(key), command, wrong))
    return found


def table(tried: Iterable[Tried]) -> str:
    """Returns the table of all cases by verb, and under it the number of failures of each kind."""
    by_verb: dict[str, Counter[str]] = defaultdict(Counter)
    kinds: Counter[str] = Counter()
    for one in {one.key: one for one in tried}.values():
        kind = one.wrong.partition(":")[0]
        row = by_verb[one.key[0].split(",")[0].split(" --")[0]]
        row["skipped" if kind == "skipped" else "cases"] += 1
        row["commands"] += one.command and kind != "skipped"
        if kind and kind != "skipped":
            kinds[kind] += 1
            row[kind if kind in KINDS else "other"] += 1
    columns = ("cases", "commands", *KINDS, "other", "skipped")
    rows = [[verb, *(row[name] for name in columns)] for verb, row in sorted(by_verb.items())]
    rows.append(["all", *(sum(row[name] for row in by_verb.values()) for name in columns)])
    heads = ["verb", "cases", "as commands", "tracebacks", "hangs", "silent", "more lines", "other", "skipped"]
    return f"{tabulate(rows, heads)}\nfailures by kind: {dict(kinds) or 'none'}"


def seed() -> int:
    """Returns the seed of every draw."""
    return int(os.environ.get("FUZZ_SEED", SEED))


def part() -> tuple[int, int]:
    """Returns which part of all cases this process tries, from 0, and of how many."""
    this, _, all_ = os.environ.get("FUZZ_PART", "0/1").partition("/")
    return int(this), int(all_)


def wanted(share: float) -> int:
    """Returns how many cases a group with this share of :data:`CASES` tries here."""
    return round(share * int(os.environ.get("FUZZ_CASES", CASES)) / part()[1])


def draw(pairs: Sequence[tuple[Hashable, Pair]], count: int) -> list[Pair]:
    """Returns as many distinct pairs from this process's part, all strata alike.

    Args:
        pairs: Each with its stratum.
        count: How many, at most.
    """
    this, all_ = part()
    rng = random.Random(f"{seed()}")
    strata: dict[Hashable, list[Pair]] = defaultdict(list)
    for stratum, pair in pairs:
        strata[stratum].append(pair)
    for stratum in strata.values():
        rng.shuffle(stratum)
    names = list(strata)
    rng.shuffle(names)
    order = []
    while names:
        order += [strata[name].pop() for name in names]
        names = [name for name in names if strata[name]]
    return order[this::all_][:count]
