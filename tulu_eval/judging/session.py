"""Judges outputs in two steps: ``prepare`` sends nothing and costs nothing, ``execute`` asks the judge and writes files.

Everything that can fail without the judge fails in ``prepare``: files, prompt, the gamed rows for LC, the price. ``execute``
writes ``judgments.jsonl`` and ``judging.json`` (the manifest) without any text into its folder, and ``annotations.json`` for
alpaca_eval's own tools. The last has the instructions' text and must not be published (CC-BY-NC-4.0).
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from tulu_eval.benchmarks.alpaca_baselines import known
from tulu_eval.benchmarks.alpaca_set import load_baseline
from tulu_eval.errors import DataError, UserError
from tulu_eval.files import write_text
from tulu_eval.judging import outputs as files
from tulu_eval.judging import record
from tulu_eval.judging.annotations import Annotation, Annotations, read_annotations
from tulu_eval.judging.budget import JudgingEstimate
from tulu_eval.judging.calibrate_judge import Calibration, Sampled, calibrate
from tulu_eval.judging.gamed import GamedFile
from tulu_eval.judging.judge import Endpoint, JudgeJob, Judging, judge_pairs
from tulu_eval.judging.judge_recipe import ALPACA_EVAL_2, Pair
from tulu_eval.judging.judged import Judge, Terms, annotator_judge, from_annotations, from_judgments, terms_of
from tulu_eval.judging.numbers import results
from tulu_eval.judging.screen import Screen, screen
from tulu_eval.judging.win_rates import AS_PUBLISHED, Score, Scoring, score
from tulu_eval.records import Result


@dataclasses.dataclass(frozen=True, slots=True)
class Prepared:
    """A judging before its first call.

    Attributes:
        estimate: Estimated cost of the questions that the cache lacks.
        gamed: Gamed rows for LC; ``None`` if there will be no LC.
    """

    job: JudgeJob
    generator: str
    pairs: tuple[Pair, ...]
    estimate: JudgingEstimate
    screen: Screen
    gamed: GamedFile | None
    scoring: Scoring


@dataclasses.dataclass(frozen=True, slots=True)
class ScoredOutputs:
    """A file of annotations with its numbers."""

    annotations: Annotations
    score: Score
    screen: Screen

    @property
    def flags(self) -> list[str]:
        """Reasons to doubt the numbers, one line each."""
        return [*self.annotations.notes, *self.screen.flags]


@dataclasses.dataclass(frozen=True, slots=True)
class JudgingOutcome:
    """A judging after its last call."""

    judging: Judging
    score: Score
    results: tuple[Result, ...]


def prepare(
    outputs: files.Outputs,
    job: JudgeJob,
    scoring: Scoring = AS_PUBLISHED,
    baseline: Path | None = None,
    limit: int | None = None,
) -> Prepared:
    """Returns a judging that is ready to start.

    ``baseline`` is a copy of the outputs of the recipe's baseline, ``None`` for the pinned file; ``limit`` takes the first
    instructions, 1 or more, ``None`` all.

    Raises:
        UserError: If anything fails that does not need the judge: a file, the prompt, the gamed rows, the limit.
    """
    if limit is not None and limit < 1:
        raise UserError(f"--limit must be 1 or more, not {limit}")
    rows = load_baseline(baseline, job.recipe.edition.baseline_name)
    pairs = tuple(files.make_pairs(rows, outputs)[:limit])
    if not pairs:
        raise UserError("there is no output to judge")
    gamed = scoring.load_gamed(len(pairs)) if job.recipe.edition.lc else None
    return Prepared(job, outputs.generator, pairs, job.estimate(pairs), screen(pairs), gamed, scoring)


def execute(
    prepared: Prepared,
    endpoint: Endpoint,
    folder: Path,
    calibration: Calibration | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> JudgingOutcome:
    """Asks the judge, scores the answers, and writes the files into a folder.

    The manifest keeps ``calibration``, this judge's, so that the calibrated numbers can be computed again. ``progress`` is
    called with the number of new answers so far; several threads may call it.

    Raises:
        UserError: If the endpoint, the judge or the disk fails, or there is nothing to score; the cache keeps all paid answers.
    """
    pairs, recipe = prepared.pairs, prepared.job.recipe
    judging = judge_pairs(pairs, prepared.job, endpoint, progress)
    record.write_judgments(folder / "judgments.jsonl", pairs, judging.judgments)
    record.write_annotations(folder / "annotations.json", pairs, judging.judgments, recipe, prepared.generator)
    data = _manifest(prepared, judging, calibration)
    write_text(folder / "judging.json", json.dumps(data, indent=1) + "\n")
    rows = from_judgments(pairs, judging.judgments)
    try:
        found = score(rows, Terms(Judge.of(recipe), recipe.edition.baseline.baseline), prepared.gamed, prepared.scoring)
    except UserError as error:
        reasons = judging.reasons
        raise UserError("; ".join([str(error), *reasons[:1]])) from error
    return JudgingOutcome(judging, found, results(found))


def _manifest(prepared: Prepared, judging: Judging, calibration: Calibration | None) -> dict[str, object]:
    """Returns the content of ``judging.json``, which has no key and no text."""
    recipe, price, usage = prepared.job.recipe, prepared.job.budget.price, judging.usage
    return {
        "judge": recipe.judge,
        "method": recipe.method,
        "where": prepared.job.where,
        "served_as": judging.served,
        "prompt_sha256": recipe.prompt_sha256,
        "parameters": dict(recipe.parameters),
        "baseline": recipe.edition.baseline.baseline.label,
        "generator": prepared.generator,
        "counts": judging.counts,
        "cached": judging.cached,
        "estimate": dataclasses.asdict(prepared.estimate),
        "spent": dataclasses.asdict(judging.spent),
        "whole": {
            **msgspec.to_builtins(usage),
            "dollars": price.dollars(usage.prompt_tokens, usage.answer_tokens) if price else None,
        },
        "price": dataclasses.asdict(price) if price else None,
        "tulu_eval": importlib.metadata.version("tulu-eval"),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "screen": dataclasses.asdict(prepared.screen),
        "calibration": dataclasses.asdict(calibration) if calibration else None,
    }


def score_files(
    annotations: Path, outputs: files.Outputs | None = None, scoring: Scoring = AS_PUBLISHED, positional: bool = False
) -> ScoredOutputs:
    """Scores any annotations in alpaca_eval's format, offline.

    ``outputs`` must be the judged ones, ``None`` for no check; ``positional`` takes difficulties by row number, only for parity
    with numbers that were published so.

    Raises:
        DataError: If a file does not have its form, or rows have no preference and ``partial`` is off.
        UserError: If the annotations judge other outputs.
    """
    found = read_annotations(annotations)
    failed = [number for number, row in enumerate(found.rows, start=1) if row.preference is None]
    if failed and not scoring.partial:
        raise DataError(
            annotations,
            f"row {failed[0]} has no preference (null); the judge failed in {len(failed)} of {len(found.rows)} rows: "
            "--partial counts them as failed and scores the others",
        )
    if outputs is not None:
        other = [row for row in found.rows if outputs.by_place.get(row.place) != row.output]
        if other:
            raise UserError(
                f"{annotations} judges other outputs than those given: {len(other)} of {len(found.rows)} differ, the first is "
                f"instruction {other[0].place + 1}"
            )
    rows = from_annotations(found, positional)
    terms = terms_of(found, positional)
    gamed = scoring.load_gamed(sum(row.preference is not None for row in rows)) if terms.edition.lc else None
    found_score = score(rows, terms, gamed, scoring)
    return ScoredOutputs(found, found_score, screen([row.pair for row in found.rows]))


def calibrate_judge(
    sample: Sequence[Sampled], job: JudgeJob, endpoint: Endpoint, progress: Callable[[int], None] = lambda done: None
) -> tuple[Calibration, Judging]:
    """Runs a replacement judge over annotated pairs and measures it against the original.

    ``sample`` is from :func:`tulu_eval.judging.calibrate_judge.draw`; ``progress`` is called with the number of new answers so
    far, perhaps by several threads.
    """
    judging = judge_pairs([one.annotation.pair for one in sample], job, endpoint, progress)
    preferences, recipe = [judgment.preference for judgment in judging.judgments], job.recipe
    return calibrate(sample, preferences, recipe.judge, recipe.method, recipe.prompt_sha256), judging


def annotated(paths: Mapping[str, Path]) -> dict[str, tuple[Annotation, ...]]:
    """Returns the annotated rows of several models' files, for :func:`tulu_eval.judging.calibrate_judge.draw`.

    Raises:
        UserError: If a file does not have its form, or has another judge than the original, or another baseline or order.
    """
    found = {}
    for name, path in paths.items():
        read = read_annotations(path)
        if annotator_judge(read) != Judge.of_edition(ALPACA_EVAL_2):
            raise UserError(
                f"{path} was judged by {read.annotator or 'an unknown judge'}, not by the original to calibrate against"
            )
        if not read.baseline.published or read.exchanged:
            wanted, order = known()[0].baseline.label, ", sides exchanged" if read.exchanged else ""
            raise UserError(f"{path} compares with {read.baseline.label}{order}; the published scale has {wanted} as output_1")
        found[read.model or name] = read.rows
    return found
