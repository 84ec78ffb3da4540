"""Several fields at once, and any JSON in them: hypothesis looks for what no list of kinds has, and makes it small."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, strategies
from robustness import forging, mutations
from robustness.bench import Bench, Case
from robustness.cases import put
from robustness.tally import Tally, part, seed, wanted

SHARE = 25

LEAVES = strategies.none() | strategies.booleans() | strategies.integers() | strategies.floats() | strategies.text()
VALUES = strategies.recursive(
    LEAVES, lambda inner: strategies.lists(inner, max_size=4) | strategies.dictionaries(strategies.text(), inner, max_size=4)
)
WRITTEN: dict[str, Any] = {
    "manifest.json": lambda folder, data: put(folder / "manifest.json", json.dumps(data)),
    "manifest.json, hashes made again": forging.forged_manifest,
    "manifest.json, hashes made again and no result": forging.forged_manifest_alone,
    "result.json": lambda folder, data: put(folder / "result.json", json.dumps(data)),
    "result.json, hashes made again": forging.forged_result,
}
"""How a changed document is written, by the file and what becomes of its hashes."""


@strategies.composite
def combinations(draw: strategies.DrawFn, bench: Bench) -> tuple[Case, str]:
    """Draws a document with one to four fields changed, to any JSON or to what another field holds, and a verb."""
    file = draw(strategies.sampled_from(sorted(WRITTEN)))
    document = json.loads((bench.kept / file.partition(",")[0]).read_text())
    all_ = [(path, value) for path, value in mutations.places(document) if path]
    changed = []
    for path, _ in draw(strategies.lists(strategies.sampled_from(all_), min_size=1, max_size=4)):
        value = copy.deepcopy(draw(VALUES | strategies.sampled_from([value for _, value in all_])))
        inner: Any = document
        try:
            for step in path[:-1]:
                inner = inner[step]
            inner[path[-1]] = value
        except (KeyError, IndexError, TypeError):  # another change took its place away
            continue
        changed.append(".".join(map(str, path)))
    verb = draw(strategies.sampled_from(sorted(bench.verbs)))
    text = json.dumps(document)
    kind = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    write = WRITTEN[file]
    return Case(file, " ".join(changed), kind, lambda folder: write(folder, json.loads(text))), verb


def search(bench: Bench, tally: Tally, count: int) -> None:
    """Lets hypothesis try as many combinations; it raises the smallest that fails."""

    @hypothesis.seed(seed() * part()[1] + part()[0])
    @hypothesis.settings(
        max_examples=count, database=None, deadline=None, phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck), print_blob=False,
    )  # fmt: skip
    @hypothesis.given(combinations(bench))
    def tries(combination: tuple[Case, str]) -> None:
        case, verb = combination
        wrong = bench.attempt(case, verb)
        tally.add((verb, case.file, case.field, f"any JSON {case.kind}"), wrong)
        assert wrong == "", f"{wrong}  <- {verb} on {case}"

    tries()


def test_a_share_of_all_combinations_ends_well(bench: Bench, tally: Tally) -> None:
    search(bench, tally, SHARE)


@pytest.mark.fuzz
@pytest.mark.timeout(24 * 3600)
def test_combinations_end_well(bench: Bench, tally: Tally) -> None:
    done = sum("any JSON" in key[3] for key in tally.before)
    search(bench, tally, max(1, wanted(0.07) - done) if "FUZZ_TALLY" in os.environ else wanted(0.07))
