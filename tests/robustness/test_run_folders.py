"""Whatever a run folder holds, every verb ends in time, with exit code 0, 1 or 2, in one line, and accepts nothing silently."""

from __future__ import annotations

from typing import Any

import pytest
from robustness import cases, fields
from robustness.bench import Bench, Case
from robustness.tally import Tally, draw, wanted

BENCHES = {
    "bench": (100, 0.32, 0.045),
    "alpaca_bench": (25, 0.11, 0.015),
    "judged_bench": (60, 0.13, 0.015),
    "audit_bench": (0, 0.009, 0),
}
"""By fixture: cases that every run of the tests tries; shares of all that ``make fuzz`` tries here and as programs."""

REFUSED = {
    "bench": {"audit", "judge"},
    "alpaca_bench": {"audit", "verify", "bundle"},
    "judged_bench": {"verify", "compare", "compare, second", "judge", "bundle", "card"},
}
"""Verbs whose words are refused on the unharmed run too: a model that is not there, a run of another kind."""


def all_cases(bench: Bench) -> list[Case]:
    judged = (bench.kept / "judging.json").exists()
    return list((cases.every_judged if judged else cases.every)(bench.kept, bench.other))


def all_pairs(bench: Bench) -> list[tuple[Any, tuple[Case, str]]]:
    """Returns every case with every verb, each with its stratum: verb, file, what was done."""
    return [
        ((verb, case.file, case.kind.rstrip("0123456789")), (case, verb)) for case in all_cases(bench) for verb in bench.verbs
    ]


def attempt(bench: Bench, tally: Tally, pairs: list[tuple[Case, str]], *, command: bool = False) -> list[str]:
    """Tries pairs, counts them, and returns a line for each that failed."""
    keys = []
    for case, verb in pairs:
        key = (verb, case.file, case.field, case.kind)
        keys.append(key)
        if key not in tally.before:
            tally.add(key, bench.attempt(case, verb, command=command), command=command)
    return tally.failures(keys)


@pytest.mark.parametrize("kind", [kind for kind, (few, _, _) in BENCHES.items() if few])
def test_a_share_of_all_changes_ends_well(kind: str, request: pytest.FixtureRequest, tally: Tally) -> None:
    bench = request.getfixturevalue(kind)
    plain = {verb: bench.plain(verb) for verb in bench.verbs}
    assert {verb: one.failure for verb, one in plain.items() if one.failure} == {}
    assert {verb for verb, one in plain.items() if one.code} == REFUSED.get(kind, set())
    failures = attempt(bench, tally, draw(all_pairs(bench), BENCHES[kind][0]))
    assert not failures, "\n".join(failures)


@pytest.mark.fuzz
@pytest.mark.timeout(24 * 3600)
@pytest.mark.parametrize("kind", BENCHES)
def test_all_changes_end_well(kind: str, request: pytest.FixtureRequest, tally: Tally) -> None:
    bench = request.getfixturevalue(kind)
    _, here, commands = BENCHES[kind]
    pairs = draw(all_pairs(bench), wanted(here) + wanted(commands))
    failures = attempt(bench, tally, pairs[wanted(commands) :])
    failures += attempt(bench, tally, pairs[: wanted(commands)], command=True)
    assert not failures, "\n".join(failures)


def test_every_field_of_the_table_is_there_and_free_ones_change_nothing(bench: Bench) -> None:
    names = {case.field.split(".")[0] for case in all_cases(bench) if case.file == "manifest.json"}
    assert set(fields.FREE["manifest.json"]) <= names | {"shard"}
    for case in all_cases(bench):
        if case.file == "manifest.json" and case.field in fields.FREE["manifest.json"] and case.kind == "other 1":
            assert bench.attempt(case, "score") == ""
