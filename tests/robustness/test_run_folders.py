"""Whatever a run folder holds, every verb ends in time, with exit code 0, 1 or 2, in one line, and accepts nothing silently."""

from __future__ import annotations

import os
from collections import Counter
from types import ModuleType
from typing import Any

import pytest

SHARE = 170
"""Pairs of a case and a verb that every run of the tests tries; about 20 s of one core, twice."""


def tried(bench: Any, pairs: list[tuple[Any, str]]) -> tuple[int, list[str]]:
    """Returns how many pairs were tried, and what failed."""
    failures = []
    for case, verb in pairs:
        wrong = bench.attempt(case, verb)
        if wrong:
            failures.append(f"{wrong}  <- {verb} on {case}")
    return len(pairs), failures


@pytest.mark.parametrize("kind", ["bench", "judged_bench"])
def test_a_share_of_all_changes_ends_well(kind: str, request: pytest.FixtureRequest, cases: ModuleType) -> None:
    bench = request.getfixturevalue(kind)
    assert {verb: one.failure for verb, one in bench.baseline.items() if one.failure} == {}
    assert {verb for verb, one in bench.baseline.items() if one.code == 0} >= {
        "score",
        "score --json",
        "table",
        "table csv",
        "report",
    }
    count, failures = tried(bench, cases.sample(_all(bench, cases), list(bench.verbs), SHARE))
    assert count == SHARE
    assert not failures, "\n".join(failures)


@pytest.mark.fuzz
@pytest.mark.timeout(24 * 3600)
@pytest.mark.parametrize("kind", ["bench", "judged_bench"])
def test_all_changes_end_well(
    kind: str, request: pytest.FixtureRequest, cases: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = request.getfixturevalue(kind)
    all_ = _all(bench, cases)
    if "FUZZ_CASES" in os.environ:
        seed = int(os.environ.get("FUZZ_SEED", cases.SEED))
        pairs = cases.sample(all_, list(bench.verbs), int(os.environ["FUZZ_CASES"]), seed)
    else:
        pairs = [(case, verb) for case in all_ for verb in bench.verbs]
    count, failures = tried(bench, pairs)
    kinds = Counter(line.partition(":")[0] for line in failures)
    with capsys.disabled():
        print(f"\n{kind}: {count} cases tried ({len(all_)} changes, {len(bench.verbs)} verbs): {dict(kinds) or 'no failure'}")
    assert not failures, "\n".join(failures)


def _all(bench: Any, cases: ModuleType) -> list[Any]:
    judged = (bench.kept / "judging.json").exists()
    return list((cases.every_judged if judged else cases.every)(bench.kept))


def _nothing(*_: object, **__: object) -> tuple[()]:
    return ()


def _same(text: str) -> str:
    return text


def _first(one: Any, *_: object) -> Any:
    return one


PLANTED: dict[str, tuple[str, Any, str, str, str]] = {
    "manifests are not checked": ("tulu_eval.runs.schema.check_manifest", _nothing, "score", "manifest.json", "other type"),
    "results are not checked": (
        "tulu_eval.runs.schema.check_results", _nothing, "score", "result.json, hashes made again", "other type",
    ),
    "a manifest is not held against its hashes": (
        "tulu_eval.runs.rereading.of_manifest", _nothing, "score", "manifest.json", "other case",
    ),
    "rows are not computed again": (
        "tulu_eval.runs.rereading.rows",
        lambda _manifest, _benchmark, _found, recorded: (recorded.rows if recorded else (), []),
        "verify",
        "result.json, hashes made again",
        "other",
    ),
    "a terminal can be steered": (
        "tulu_eval.cli.common.printable_lines", _same, "score", "manifest.json, hashes made again and no result", "hostile",
    ),
    "a tag stands in Markdown": (
        "tulu_eval.reports.table.markdown_cell",
        _same,
        "table markdown",
        "manifest.json, hashes made again and no result",
        "hostile",
    ),
    "problems are not told": ("tulu_eval.runs.reading.sound", _first, "table", "manifest.json", "other"),
}  # fmt: skip
"""Checks that are taken out of the package: what is in their place, and the verb and the cases that must show it."""


@pytest.mark.parametrize("name", PLANTED)
def test_the_harness_finds_a_check_that_is_missing(
    name: str, bench: Any, cases: ModuleType, harness: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, instead, verb, file, kind = PLANTED[name]
    monkeypatch.setattr(harness, "SECONDS", 2)
    monkeypatch.setattr(target, instead)
    wanted = (case for case in cases.every(bench.kept) if case.file == file and case.kind.startswith(kind))
    assert any(bench.attempt(case, verb) for case in wanted)
