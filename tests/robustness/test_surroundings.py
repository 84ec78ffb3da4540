"""Whatever is around a command, it ends in time, with a word at most, and prints what it prints elsewhere."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from robustness import endings, places, surroundings
from robustness.endings import Ended
from robustness.places import Place
from robustness.surroundings import Around
from robustness.tally import Tally, draw, wanted
from robustness.verbs import MANY

SHARE = 5

FILES = {
    "table": ("--output", "table.md"), "card": ("--output", ""), "bundle": ("--output", "b.zip"),
    "report": ("--output", "r.html"), "import": ("--output", "results"), "merge": ("--output", "merged"),
    "score alpaca-eval": ("--output", "scored"),
}  # fmt: skip
"""Verbs that write, each with the option and the name of what it writes."""


@pytest.fixture
def disk(quiet_place: Path) -> Iterator[str]:
    with surroundings.full_disk(quiet_place / "full") as full:
        yield full


class Tries:
    """Runs commands of good lines among odd surroundings.

    Args:
        place: Their inputs.
        disk: A folder on a full disk, or why there is none.
    """

    def __init__(self, place: Place, disk: str) -> None:
        self.place, self.disk = place, disk
        self.spare = place.root.with_name("around")
        self._plain: dict[str, Ended] = {}

    def plain(self, verb: str) -> Ended:
        """Returns how a verb ends without anything odd."""
        if verb not in self._plain:
            self._plain[verb] = self.started(verb, Around("nothing"))
        return self._plain[verb]

    def started(self, verb: str, around: Around, more: tuple[str, ...] = (), skip: str = "") -> Ended:
        """Runs a verb."""
        shutil.rmtree(self.spare, ignore_errors=True)
        self.spare.mkdir()
        (self.spare / "file").write_text("a file")
        (self.spare / "spoilt").mkdir()
        (self.spare / "spoilt" / "tulu-eval").write_text("a file")
        changes = {name: value and value.format(place=self.spare, full=self.disk) for name, value in around.variables.items()}
        env = endings.environment(self.spare / "cache", **changes)
        env |= {"FULL": self.disk, "GONE": str(self.spare / "gone")}
        found = endings.as_command(self.place.words(verb, skip, more), env, self.spare, around.shell)
        if self.disk.startswith("/"):
            (Path(self.disk) / "out").write_text("")
        self.place.restore()
        return found

    def wrong(self, verb: str, around: Around) -> str:
        """Returns what is wrong with how a verb ends among something odd."""
        if self.disk.startswith("skipped") and "full disk" in around.name:
            return self.disk
        plain = self.plain(verb)
        found = self.started(verb, around)
        if found.failure:
            return found.failure
        if "encod" in around.name or "output in UTF-16" in around.name:
            found = Ended(found.code, "", found.err)
        silent = any(word in around.name for word in ("closed", "both", "stderr"))  # so that nothing can be said
        failure = endings.wrong(found, 10**6 if verb in MANY else max(1, len(plain.err.splitlines())), around.codes)
        if failure and not (silent and failure.startswith("lines: exit code 2")):
            return failure
        alike = around.same and verb != "doctor"  # which says what is around it
        if alike and (found.code, found.out) != (plain.code, plain.out):
            return f"silent: ends with {found.code} and {found.out[-60:]!r} for {plain.code}: {found.err[:150]!r}"
        if around.unwritten and plain.out and found.code == 0 and "| true" not in around.shell:
            return "silent: exit code 0, and nothing that was printed was written"
        return ""


LIGHT = [verb for verb, line in places.LINES.items() if not line.slow]


def attempt(tries: Tries, tally: Tally, chosen: list[tuple[str, Around]]) -> list[str]:
    """Tries each, counts it, and returns a line for each that failed."""
    keys = []
    for verb, around in chosen:
        key = (" ".join(places.verb_of(verb)), "around it", verb, around.name)
        keys.append(key)
        if key not in tally.before:
            tally.add(key, tries.wrong(verb, around), command=True)
    return tally.failures(keys)


def test_a_share_of_all_surroundings(place: Place, disk: str, tally: Tally) -> None:
    pairs: list[tuple[Any, tuple[str, Around]]] = [
        (one.name, (verb, one)) for one in surroundings.ALL for verb in ("models show", "verify")
    ]
    failures = attempt(Tries(place, disk), tally, draw(pairs, SHARE))
    assert not failures, "\n".join(failures)


@pytest.mark.fuzz
@pytest.mark.timeout(24 * 3600)
def test_all_surroundings(place: Place, disk: str, tally: Tally) -> None:
    pairs: list[tuple[Any, tuple[str, Around]]] = []
    pairs += [((one.name, 0), (verb, one)) for one in surroundings.ALL for verb in LIGHT]
    pairs += [((verb, 1), (verb, one)) for one in surroundings.pairs() for verb in LIGHT]
    tries = Tries(place, disk)
    failures = attempt(tries, tally, draw(pairs, wanted(0.03)))
    slow = [(verb, (verb, one)) for one in surroundings.ALL for verb, line in places.LINES.items() if line.slow]
    failures += attempt(tries, tally, draw(slow, wanted(0.002)))
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("verb", FILES)
def test_a_full_disk_is_told_and_nothing_is_left_on_it(verb: str, place: Place, disk: str, tally: Tally) -> None:
    key = (verb.split()[0], "around it", "what it writes", f"on a full disk {verb}")
    if disk.startswith("skipped"):
        tally.add(key, disk, command=True)
        pytest.skip(disk)
    option, name = FILES[verb]
    before = sorted(os.listdir(disk))
    found = Tries(place, disk).started(verb, Around("a full disk"), (option, f"{disk}/{name}"), option)
    wrong = endings.wrong(found, 2)
    if not wrong and (found.code != 2 or "No space left" not in found.err):
        wrong = f"silent: ends with {found.code}: {found.err[:150]!r}"
    left = [one for place_, _, names in os.walk(disk) for one in names if place_ != disk or one not in before]
    if not wrong and [one for one in left if one != ".lock"]:
        wrong = f"half-written: {left}"
    tally.add(key, wrong, command=True)
    assert wrong == ""
