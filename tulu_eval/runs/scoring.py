"""From samples to rows: one row a covered protocol and scorer, each with n, interval, failure counts and signature."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tulu_eval.benchmarks.base import Benchmark, classify, count_statuses
from tulu_eval.errors import DataError
from tulu_eval.records import Result
from tulu_eval.runs import catalog
from tulu_eval.runs.digests import Digest, digest, write_digests
from tulu_eval.runs.ledger import Ledger, Sample, encode, marks
from tulu_eval.runs.manifest import LEDGER, locked, read_manifest, samples_hash, write_results
from tulu_eval.runs.signature import signature
from tulu_eval.stats import wilson


@dataclasses.dataclass(frozen=True, slots=True)
class Marks:
    """What aggregation needs of a sample; a million of them fit in memory.

    Attributes:
        status: The class the sample falls in.
        scores: One a scorer.
    """

    status: str
    scores: tuple[float, ...]


def grade_sample(benchmark: Benchmark, sample: Sample) -> Sample:
    """Returns a sample graded by the benchmark as it is now; what the engine failed on is wrong, and counted as such."""
    text = "" if sample.completion.finish_reason == "error" else sample.completion.text
    grades = benchmark.grade(sample.target, text)
    return dataclasses.replace(sample, grades=grades, status=classify(sample.completion, grades))


def write_rows(folder: Path, manifest: dict[str, Any], benchmark: Benchmark, lines: Iterable[bytes]) -> tuple[Result, ...]:
    """Computes the rows of a run from the lines of graded samples and writes ``result.json``; returns the rows.

    Where samples may not be published, ``digests.jsonl`` is written too.
    """
    found: dict[str, Marks] = {}
    digests: list[Digest] = []
    shared: dict[Marks, Marks] = {}  # few are different: one object for all that are equal

    def noted() -> Iterator[bytes]:
        for line in lines:
            item, status, scores = marks(line)
            one = Marks(status, scores)
            found[item] = shared.setdefault(one, one)
            if not benchmark.publishable:
                digests.append(digest(line))
            yield line

    whole = samples_hash(noted())
    results = make_rows(manifest, benchmark, found)
    if digests:
        write_digests(folder, digests)
    write_results(folder, results, whole)
    return results


def make_rows(manifest: dict[str, Any], benchmark: Benchmark, found: dict[str, Marks]) -> tuple[Result, ...]:
    """Returns the rows: every covered protocol with items that were graded, and every scorer, the published ones first."""
    results = []
    for protocol, ids in manifest["items"].items():
        present = tuple(item for item in ids if item in found)
        if not present:
            continue
        counts = count_statuses(found[item].status for item in present)
        for index, scorer in enumerate(benchmark.scorers):
            scores = [found[item].scores[index] for item in present]
            interval = wilson(round(sum(scores)), len(scores))
            results.append(
                Result(
                    benchmark=benchmark.name,
                    protocol=protocol,
                    scorer=scorer,
                    metric=benchmark.protocols[protocol].metric,
                    value=benchmark.aggregate(scores),
                    n=len(present),
                    n_protocol=len(ids),
                    low=100 * interval.low,
                    high=100 * interval.high,
                    interval="wilson95",
                    counts=counts,
                    signature=signature(manifest, protocol, scorer, present),
                )
            )
    return tuple(results)


@dataclasses.dataclass(frozen=True, slots=True)
class Disagreement:
    """An item on which the scorers differ: what the choice of an extraction rule is worth.

    Attributes:
        item: Item id.
        target: The right answer.
        answers: What each scorer read, in the order of the benchmark's scorers.
        scores: What each gave.
    """

    item: str
    target: str
    answers: tuple[str, ...]
    scores: tuple[float, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Scored:
    """What :func:`score` found.

    Attributes:
        results: The rows.
        scorers: Names of the scorers.
        disagreements: Items on which they differ, in the ledger's order.
    """

    results: tuple[Result, ...]
    scorers: tuple[str, ...]
    disagreements: tuple[Disagreement, ...]


def score(folder: Path) -> Scored:
    """Grades a run's ledger again with the benchmark as it is now, loading no model, and writes ``result.json``.

    Raises:
        DataError: Not a run folder, no samples, or lines that were changed by hand.
    """
    manifest = read_manifest(folder)
    benchmark = catalog.benchmark(manifest["benchmark"]["name"])
    differing: list[Disagreement] = []

    def graded(ledger: Ledger) -> Iterator[bytes]:
        for sample in ledger.samples():
            fresh = grade_sample(benchmark, sample)
            scores = tuple(grade.score for grade in fresh.grades)
            if len(set(scores)) > 1:
                answers = tuple(grade.answer for grade in fresh.grades)
                differing.append(Disagreement(sample.item, sample.target, answers, scores))
            yield encode(fresh)

    with locked(folder), Ledger(folder / LEDGER, read_only=True) as ledger:
        if ledger.corrupt:
            lines = ", ".join(map(str, ledger.corrupt[:5]))
            raise DataError(folder / LEDGER, f"{len(ledger.corrupt)} lines are corrupt or changed by hand (first: {lines})")
        if not len(ledger):
            raise DataError(folder / LEDGER, "has no samples")
        results = write_rows(folder, manifest, benchmark, graded(ledger))
    return Scored(results, benchmark.scorers, tuple(differing))
