"""Grading a run's samples again with the benchmark as it is now; no model is loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from msgspec import UNSET

from tulu_eval.errors import DataError
from tulu_eval.records import Result
from tulu_eval.runs import catalog, rereading
from tulu_eval.runs.ledger import Ledger, Sample, asked_of, encode
from tulu_eval.runs.manifest import LEDGER, locked, with_asked, write_manifest
from tulu_eval.runs.reading import read_answers, today
from tulu_eval.runs.scoring import grade_sample, write_rows
from tulu_eval.runs.tally import Tally


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
class Regraded:
    """What :func:`score` found.

    Attributes:
        results: The rows.
        tally: How much of the run they stand on.
        scorers: Names of the scorers.
        disagreements: Items on which they differ, in the ledger's order.
        unhashed: Why nothing showed that the files were not forged before they were graded; empty for a run with all hashes.
    """

    results: tuple[Result, ...]
    tally: Tally
    scorers: tuple[str, ...]
    disagreements: tuple[Disagreement, ...]
    unhashed: str = ""


def score(folder: Path) -> Regraded:
    """Grades a run's samples again and writes ``result.json``; the samples stay as they are.

    Raises:
        DataError: If the folder is not a run's, has no samples, or has samples that are not what the run's model answered.
    """
    run = read_answers(folder)
    benchmark = catalog.benchmark(run.benchmark, run.manifest.protocol.name)
    differing: list[Disagreement] = []

    def graded(samples: Iterator[Sample]) -> Iterator[bytes]:
        for sample in samples:
            fresh = grade_sample(benchmark, sample)
            scores = tuple(grade.score for grade in fresh.grades)
            if len(set(scores)) > 1:
                answers = tuple(grade.answer for grade in fresh.grades)
                differing.append(Disagreement(sample.item, sample.target, answers, scores))
            yield encode(fresh)

    with locked(folder), Ledger(folder / LEDGER, read_only=True) as ledger:
        manifest = run.manifest
        if manifest.keys is UNSET:  # of an older version; these were just seen to be its samples
            by_item = {sample.item: asked_of(sample) for sample in ledger.samples()}
            manifest = with_asked(manifest, [by_item[item] for item in manifest.planned])
        rows = write_rows(folder, manifest, benchmark, graded(ledger.samples(rereading.pinned(manifest))))
        if not rows.tally.done + rows.tally.failed:
            raise DataError(folder / LEDGER, "has no samples")
        write_manifest(folder, rows.manifest)
    return Regraded(today(rows.results), rows.tally, benchmark.scorers, tuple(differing), run.unhashed)
