"""Whatever a run folder holds, every verb ends in time, with exit code 0, 1 or 2, in one line, and accepts nothing silently."""

from __future__ import annotations

import os
import time
from collections import Counter
from types import ModuleType
from typing import Any

import pytest

SHARE = 240
"""Pairs of a case and a verb that every run of the tests tries; about 30 s of one core."""


def tried(bench: Any, pairs: list[tuple[Any, str]], seconds: float = float("inf")) -> tuple[int, list[str]]:
    """Returns how many pairs were tried in the time, and what failed."""
    failures, began = [], time.monotonic()
    for number, (case, verb) in enumerate(pairs):
        if time.monotonic() - began > seconds:
            return number, failures
        wrong = bench.attempt(case, verb)
        if wrong:
            failures.append(f"{wrong}  <- {verb} on {case}")
    return len(pairs), failures


def test_a_share_of_all_changes_ends_well(bench: Any, cases: ModuleType, harness: ModuleType) -> None:
    assert {verb: (one.code, one.failure) for verb, one in bench.baseline.items() if one.failure} == {}
    all_ = list(cases.every(bench.kept))
    _, failures = tried(bench, cases.sample(all_, list(harness.VERBS), SHARE))
    assert not failures, "\n".join(failures)


@pytest.mark.fuzz
@pytest.mark.timeout(24 * 3600)
def test_all_changes_end_well(bench: Any, cases: ModuleType, harness: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    all_ = list(cases.every(bench.kept))
    pairs = [(case, verb) for case in all_ for verb in harness.VERBS]
    pairs = cases.sample(all_, list(harness.VERBS), int(os.environ["FUZZ_CASES"])) if "FUZZ_CASES" in os.environ else pairs
    count, failures = tried(bench, pairs)
    kinds = Counter(line.partition(":")[0] for line in failures)
    with capsys.disabled():
        print(f"\n{count} cases tried ({len(all_)} changes, {len(harness.VERBS)} verbs): {dict(kinds) or 'no failure'}")
    assert not failures, "\n".join(failures)
