"""Grades a run's samples again with the installed version of the benchmark; loads no model."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from msgspec import UNSET

from tulu_eval.errors import DataError
from tulu_eval.records import Result
from tulu_eval.runs import catalog, rereading
from tulu_eval.runs.grading import Grader
from tulu_eval.runs.reading import read_answers, today
from tulu_eval.runs.scoring import write_rows
from tulu_eval.sandbox import Execution
from tulu_eval.store.ledger import Ledger
from tulu_eval.store.manifest import LEDGER, locked, with_asked, write_manifest
from tulu_eval.store.sample_line import Sample, asked_of, encode
from tulu_eval.store.tally import Tally


@dataclasses.dataclass(frozen=True, slots=True)
class Disagreement:
    """An item to which the scorers give different scores; such items show the effect of the extraction rule.

    Attributes:
        answers: Extracted answer of each scorer, in the order of the benchmark's scorers.
        scores: Score of each scorer, 0 to 1.
    """

    item: str
    target: str
    answers: tuple[str, ...]
    scores: tuple[float, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Regraded:
    """The result of :func:`score`.

    Attributes:
        disagreements: Items on which scorers of one metric differ, in the ledger's order.
        unhashed: Reason why a forgery before this grading would not be seen; empty for a run with all hashes.
    """

    results: tuple[Result, ...]
    tally: Tally
    scorers: tuple[str, ...]
    disagreements: tuple[Disagreement, ...]
    unhashed: str = ""


def score(folder: Path, execution: Execution = Execution()) -> Regraded:  # noqa: B008 - frozen
    """Grades a run's samples again and writes ``result.json``.

    It changes the ledger only where grades come from running programs, since no other verb can make those again.

    Raises:
        DataError: If the folder is not a run's, or its samples are missing or were changed.
    """
    run = read_answers(folder)
    benchmark = catalog.benchmark(run.benchmark, run.manifest.protocol.name)
    grader = Grader.of(benchmark, run.manifest, execution)
    differing: list[Disagreement] = []
    metrics = [benchmark.metrics.get(scorer, run.manifest.protocol.metric) for scorer in benchmark.scorers]
    alike = [[place for place, one in enumerate(metrics) if one == metric] for metric in dict.fromkeys(metrics)]

    def graded(samples: Iterator[Sample]) -> Iterator[bytes]:
        for fresh in grader.grade_all(samples):
            scores = tuple(grade.score for grade in fresh.grades)
            if any(len({scores[place] for place in places}) > 1 for places in alike):
                answers = tuple(grade.answer for grade in fresh.grades)
                differing.append(Disagreement(fresh.item, fresh.target, answers, scores))
            if benchmark.executes:
                ledger.append(fresh)
            yield encode(fresh)

    with locked(folder), Ledger(folder / LEDGER, read_only=not benchmark.executes) as ledger:
        manifest = run.manifest
        if manifest.keys is UNSET:  # an older version wrote it; read_answers has checked that the samples belong to it
            by_item = {sample.item: asked_of(sample) for sample in ledger.samples()}
            manifest = with_asked(manifest, [by_item[item] for item in manifest.planned])
        rows = write_rows(folder, manifest, benchmark, graded(ledger.samples(rereading.pinned(manifest))))
        if not rows.tally.done + rows.tally.failed:
            raise DataError(folder / LEDGER, "has no samples")
        write_manifest(folder, rows.manifest)
    return Regraded(today(rows.results), rows.tally, benchmark.scorers, tuple(differing), run.unhashed)
