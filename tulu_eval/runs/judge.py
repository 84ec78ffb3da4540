"""Ties runs to judges: gives a run's outputs to ``judging``, and writes the judge's rows beside the run's own.

A run folder with two judges::

    samples.jsonl  manifest.json  result.json  digests.jsonl  model_outputs.json
    judged/gpt-4.1-logprobs/        judgments.jsonl  judging.json  result.json  annotations.json
    judged/my-judge-text-first64/   ...

``judgments.jsonl`` holds hashes of the judged outputs, so a reader notices rows that belong to other samples. Without
``samples.jsonl``, ``model_outputs.json`` and ``annotations.json`` the folder has no text; every reader accepts it like this.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from tulu_eval.caching import cache_folder
from tulu_eval.errors import DataError, UserError, printable
from tulu_eval.judging import outputs as files
from tulu_eval.judging import record
from tulu_eval.judging.calibrate_judge import Calibration
from tulu_eval.judging.judge import Endpoint
from tulu_eval.judging.judge_recipe import JudgeRecipe
from tulu_eval.judging.screen import Screen
from tulu_eval.judging.session import JudgingOutcome, Prepared, execute
from tulu_eval.judging.win_rates import Score, Scoring, score
from tulu_eval.records import Result
from tulu_eval.runs.judged_check import (
    AGAIN,
    JUDGED,
    JUDGING,
    JUDGMENTS,
    JudgedResult,
    Output,
    check_same_outputs,
    judge_of,
    judgments_hash,
    read_judged,
    read_judging,
    sound_judgments,
)
from tulu_eval.runs.judged_schema import StoredJudging
from tulu_eval.runs.reading import finished, read_answers
from tulu_eval.store import schema
from tulu_eval.store.identity import safe_name
from tulu_eval.store.manifest import LEDGER, MANIFEST, Recorded, locked, write_results

BENCHMARK = "alpaca-eval"


class InterruptedJudgingError(UserError):
    """Somebody pressed Ctrl-C; the cache keeps the judge's answers."""

    exit_code = 130


@dataclasses.dataclass(frozen=True, slots=True)
class JudgeTarget:
    """The outputs of a model that a judge is asked about; ``folder`` gets one subfolder per judge."""

    outputs: files.Outputs
    folder: Path


def find(path: Path, partial: bool = False) -> JudgeTarget:
    """Returns the outputs of a run folder, or of a file in alpaca_eval's format.

    With ``partial``, a file may have fewer than 805 outputs; a run's manifest lists its items, so a run needs no such word.
    """
    if path.is_dir():
        return JudgeTarget(outputs_of(path), path / JUDGED)
    outputs = files.read_outputs(path, partial)
    name = safe_name(outputs.generator or path.stem)
    return JudgeTarget(outputs, Path("results") / name / BENCHMARK / JUDGED)


def outputs_of(folder: Path) -> files.Outputs:
    """Returns the outputs of a run's model without those on which its engine failed.

    Raises:
        DataError: If the folder is not a run's, or the run has another benchmark, was changed, is unfinished or has no samples.
    """
    run = read_answers(folder)  # does not read the judges' folders, so that a judge can replace a spoilt one
    if run.benchmark != BENCHMARK:
        raise DataError(folder, f"is a run of {run.benchmark}; a judge is asked about {BENCHMARK} only")
    done = (sample for sample in finished(run).samples() if sample.completion.finish_reason != "error")
    texts = {sample.item: sample.completion.text for sample in done}
    if not texts:
        raise DataError(folder / LEDGER, "has no outputs to judge")
    return files.from_texts(texts, run.model)


def folder_of(target: JudgeTarget, recipe: JudgeRecipe, limit: int | None) -> Path:
    """Returns the folder of one judge's verdicts."""
    first = f"-first{limit}" if limit else ""
    return target.folder / f"{safe_name(recipe.judge)}-{recipe.method}{first}"


def cache_of(recipe: JudgeRecipe) -> Path:
    """Returns the default path of a judge's answers: one file for all outputs, so that nobody pays for an answer twice."""
    return cache_folder() / "judge" / f"{safe_name(recipe.judge)}.jsonl"


def judge(
    prepared: Prepared,
    endpoint: Endpoint,
    folder: Path,
    calibration: Calibration | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> JudgingOutcome:
    """Asks the judge and writes the rows; a calibration adds a calibrated row.

    ``progress`` is called with the number of answers so far, from several threads.

    Raises:
        InterruptedJudgingError: If somebody presses Ctrl-C.
        UserError: If the endpoint, the judge or the disk fails (the cache then keeps all paid answers), or the folder has
            verdicts on another model's outputs under the same name.
    """
    cache = prepared.job.cache
    before = len(cache)
    if not (folder.parent.parent / MANIFEST).exists():  # a run's outputs may change, since it tries failed items again
        check_same_outputs(folder, prepared.pairs)
    try:
        with locked(folder):
            outcome = execute(prepared, endpoint, folder, calibration, progress)
            rows = with_calibration(outcome.score, outcome.results, calibration)
            write_results(folder, Recorded(rows, judgments_hash(folder)))
    except KeyboardInterrupt as error:
        raise InterruptedJudgingError(
            f"interrupted: {len(cache) - before} answers more are kept in {cache.path}; the same command goes on from there"
        ) from error
    finally:
        if [path.name for path in folder.glob("*")] == [".lock"]:  # nothing was written
            shutil.rmtree(folder)
    return dataclasses.replace(outcome, results=rows)


def with_calibration(found: Score, rows: tuple[Result, ...], calibration: Calibration | None) -> tuple[Result, ...]:
    """Returns the rows; a calibration adds the raw win rate on the original judge's scale."""
    return rows if calibration is None else (*rows, record.calibrated(found, calibration))


def score_again(folder: Path, scoring: Scoring) -> Score:
    """Returns the score of a judge's folder, computed again; needs neither the texts nor the judge."""
    manifest = read_judging(folder)
    judge, judgments = judge_of(manifest), sound_judgments(folder, manifest)
    rows = judgments.judged()
    terms = judgments.terms(judge)
    gamed = scoring.load_gamed(sum(row.preference is not None for row in rows)) if terms.edition.lc else None
    return score(rows, terms, gamed, scoring)


def flags_of(folder: Path) -> list[str]:
    """Returns the oddities of the outputs judged in a judge's folder, or in that of a run with judges, one line each.

    Raises:
        DataError: If a judge's manifest cannot be read, or has no screen of the outputs.
    """
    found: dict[str, None] = {}
    for path in sorted([*folder.glob(JUDGING), *folder.glob(f"{JUDGED}/*/{JUDGING}")]):
        try:
            judging = schema.read_record(path, StoredJudging, "a judge's manifest")
        except DataError as error:
            raise DataError(path, f"cannot be read; {AGAIN}") from error
        if not judging.screen:
            raise DataError(path, f"cannot be read; {AGAIN}")
        screen = Screen(**msgspec.structs.asdict(judging.screen))
        flags = [*(judging.notes or ()), *screen.flags]
        found |= dict.fromkeys(map(printable, flags))
    return list(found)


def checked(folder: Path, outputs: Mapping[str, Output] | None = None) -> JudgedResult:
    """Returns the numbers of a judge's folder if all of them follow from its judgments.

    ``outputs`` are those of the run that the folder is in, by item; ``None`` if there is no run.

    Raises:
        DataError: If the numbers were changed, or do not follow from the judgments.
    """
    found = read_judged(folder, outputs)
    if found.doubts:
        raise DataError(folder, f"{'; '.join(found.doubts)}; {AGAIN}")
    return found


def preferences(folder: Path) -> dict[str, dict[str, float | None]]:
    """Returns each judge's preference for the model's output by item: 1 to 2, ``None`` if the judge failed; needs no texts.

    The folder is that of a run that :func:`tulu_eval.runs.reading.read_run` has accepted.
    """
    found: dict[str, dict[str, float | None]] = {}
    for path in sorted(folder.glob(f"{JUDGED}/*/{JUDGMENTS}")):
        rows = record.read_judgments(path).rows
        found[path.parent.name] = {row.id: row.judged.preference for row in rows}
    return found
