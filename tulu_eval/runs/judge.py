"""What ties a run to a judge: the run's outputs go to ``judging``, the judge's rows come back beside the run's own.

A run folder with two judges::

    samples.jsonl  manifest.json  result.json  digests.jsonl  model_outputs.json
    judged/gpt-4.1-logprobs/        judgments.jsonl  judging.json  result.json  annotations.json
    judged/my-judge-text-first64/   ...

``judgments.jsonl`` holds hashes of the outputs that were judged, so rows that belong to other samples are noticed. Published
without ``samples.jsonl``, ``model_outputs.json`` and ``annotations.json``, the folder has no text and can still be read.
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
from tulu_eval.runs import schema
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
from tulu_eval.runs.manifest import LEDGER, MANIFEST, Recorded, locked, write_results
from tulu_eval.runs.reading import finished, read_answers
from tulu_eval.runs.run_plan import safe_name

BENCHMARK = "alpaca-eval"


class InterruptedJudgingError(UserError):
    """Ctrl-C: what was answered is kept."""

    exit_code = 130


@dataclasses.dataclass(frozen=True, slots=True)
class JudgeTarget:
    """What is to be judged.

    Attributes:
        outputs: Of the model.
        folder: Under which a folder a judge is made.
    """

    outputs: files.Outputs
    folder: Path


def find(path: Path, partial: bool = False) -> JudgeTarget:
    """Returns the outputs of a run folder, or of a file in alpaca_eval's format.

    Args:
        path: The folder or the file.
        partial: Whether a file may have fewer than 805; a run says by itself what it has.

    Raises:
        DataError: It is neither, or not of AlpacaEval.
    """
    if path.is_dir():
        return JudgeTarget(outputs_of(path), path / JUDGED)
    outputs = files.read_outputs(path, partial)
    name = safe_name(outputs.generator or path.stem)
    return JudgeTarget(outputs, Path("results") / name / BENCHMARK / JUDGED)


def outputs_of(folder: Path) -> files.Outputs:
    """Returns what a run's model wrote; what its engine failed on is left out.

    Raises:
        DataError: If it is not a run folder, of another benchmark, not as it was made, unfinished, or without samples.
    """
    run = read_answers(folder)  # whatever its judges' folders hold, so that a spoilt one can be made again
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
    """Returns where a judge's answers are kept unless said otherwise: one file, whatever is judged, so none is paid twice."""
    return cache_folder() / "judge" / f"{safe_name(recipe.judge)}.jsonl"


def judge(
    prepared: Prepared,
    endpoint: Endpoint,
    folder: Path,
    calibration: Calibration | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> JudgingOutcome:
    """Asks the judge and writes the rows, a calibrated one among them if there is a calibration.

    Args:
        prepared: What to ask.
        endpoint: Endpoint of the judge.
        folder: Folder to write.
        calibration: Calibration of this judge.
        progress: Called with the number of answers that have come, among threads.

    Raises:
        InterruptedJudgingError: Ctrl-C.
        UserError: The endpoint, the judge or the disk failed, and the cache has what was paid; or verdicts on another model's
            outputs are there under the same name.
    """
    cache = prepared.job.cache
    before = len(cache)
    if not (folder.parent.parent / MANIFEST).exists():  # a run's own outputs may change, by what failed before
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
        if [path.name for path in folder.glob("*")] == [".lock"]:  # nothing came of it
            shutil.rmtree(folder)
    return dataclasses.replace(outcome, results=rows)


def with_calibration(found: Score, rows: tuple[Result, ...], calibration: Calibration | None) -> tuple[Result, ...]:
    """Returns the rows, and the raw win rate on the original judge's scale where there is a calibration.

    Raises:
        UserError: The calibration is of another judge.
    """
    return rows if calibration is None else (*rows, record.calibrated(found, calibration))


def score_again(folder: Path, scoring: Scoring) -> Score:
    """Scores a judge's folder again, without any text and without the judge.

    Raises:
        DataError: It is not such a folder, or its judgments were changed.
    """
    manifest = read_judging(folder)
    judge, judgments = judge_of(manifest), sound_judgments(folder, manifest)
    rows = judgments.judged()
    gamed = scoring.load_gamed(sum(row.preference is not None for row in rows))
    return score(rows, judgments.terms(judge), gamed, scoring)


def flags_of(folder: Path) -> list[str]:
    """Returns what was odd about what was judged, one line per finding, for a judge's folder or a run's."""
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
    """Returns a judge's folder of which everything follows from its judgments.

    Args:
        folder: Of one judge's verdicts.
        outputs: What the run around it has; None where there is no run.

    Raises:
        DataError: They were changed, or are not what its judgments give.
    """
    found = read_judged(folder, outputs)
    if found.doubts:
        raise DataError(folder, f"{'; '.join(found.doubts)}; {AGAIN}")
    return found


def preferences(folder: Path) -> dict[str, dict[str, float | None]]:
    """Returns each judge's preference for the model's output (1 to 2, None where it failed) by item; without any text.

    Args:
        folder: Of a run that has been read.
    """
    found: dict[str, dict[str, float | None]] = {}
    for path in sorted(folder.glob(f"{JUDGED}/*/{JUDGMENTS}")):
        rows = record.read_judgments(path).rows
        found[path.parent.name] = {row.id: row.judged.preference for row in rows}
    return found
