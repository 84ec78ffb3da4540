"""Scores again, without a model or a judge: a run's samples, a judge's judgments, anyone's annotations."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from tulu_eval.api.paths import AnyPath
from tulu_eval.api.runs import Run, folder_of
from tulu_eval.api.words import spoken
from tulu_eval.errors import UserError
from tulu_eval.judging.calibrate_judge import Calibration
from tulu_eval.judging.numbers import results
from tulu_eval.judging.record import read_calibration
from tulu_eval.judging.session import score_files
from tulu_eval.judging.win_rates import LARGEST_C, SMALLEST_C, Score, Scoring
from tulu_eval.records import Result
from tulu_eval.runs import judge, rescored
from tulu_eval.runs.score import Regraded, score
from tulu_eval.sandbox import Execution

if TYPE_CHECKING:
    from tulu_eval.stats.length_control import FoldMode


@dataclasses.dataclass(frozen=True, slots=True)
class WinRates:
    """Win rates from judgments.

    Attributes:
        score: Counts and numbers.
        results: The numbers as rows, with a calibrated one if a calibration is given.
        flags: What makes the numbers doubtful, one line each.
        folder: Folder in which they were kept; None if they were not.
    """

    score: Score
    results: tuple[Result, ...]
    flags: tuple[str, ...]
    folder: Path | None = None


@spoken
def rescore(run: Run | AnyPath, *, unsafe_execution: bool = False, sandbox_image: str = "") -> Regraded:
    """Grades a run's samples again with the benchmark as it is now, and writes its ``result.json``.

    >>> scored = tulu_eval.rescore("results/my-checkpoint/gsm8k/card-200-1a2b3c4d")
    >>> [one.item for one in scored.disagreements]  # items on which the scorers differ

    Args:
        run: The run, or its folder.
        unsafe_execution: Run programs that the model wrote without a sandbox, with your rights.
        sandbox_image: Run them in containers of this image, by podman or docker, in place of bubblewrap's sandbox.

    Raises:
        DataError: If the folder is not a run's, or a sample is not what the run's model answered.
        PreflightError: If programs are to run and there is no sandbox here.
    """
    return score(folder_of(run), Execution(unsafe=unsafe_execution, image=sandbox_image))


@spoken
def rescore_judgments(
    folder: AnyPath,
    *,
    gamed: AnyPath | None = None,
    folds: FoldMode = "leaderboard",
    c: float | None = None,
    partial: bool = False,
    calibration: AnyPath | None = None,
) -> WinRates:
    """Scores the folder of a judge again, without any text and without the judge; writes nothing.

    >>> tulu_eval.rescore_judgments("results/mine/alpaca-eval/alpacaeval2-805-1a2b3c4d/judged/gpt-4.1-logprobs").results

    Args:
        folder: What :func:`judge` wrote.
        gamed: Copy of df_gamed.csv; the hub's pinned one unless given.
        folds: How rows are dealt when LC's regularisation is chosen: ``leaderboard`` or ``stable``.
        c: LC's regularisation constant, instead of the one that the folds choose.
        partial: Accept fewer than 805 judgments; LC is then marked.
        calibration: File that :func:`calibrate_judge` wrote; adds the raw win rate on the original judge's scale.

    Raises:
        UserError: If it is not such a folder, or a file or number does not fit.
    """
    found = judge.score_again(Path(folder), scoring(gamed, folds, partial, c))
    return WinRates(found, _rows(found, calibration_of(calibration)), tuple(judge.flags_of(Path(folder))))


@spoken
def score_annotations(
    annotations: AnyPath,
    *,
    outputs: Run | AnyPath | None = None,
    output: AnyPath | None = None,
    gamed: AnyPath | None = None,
    folds: FoldMode = "leaderboard",
    c: float | None = None,
    partial: bool = False,
    positional: bool = False,
    calibration: AnyPath | None = None,
) -> WinRates:
    """Scores anyone's AlpacaEval annotations, offline: raw and length-controlled win rate.

    >>> rates = tulu_eval.score_annotations("annotations.json", outputs="model_outputs.json", gamed="df_gamed.csv")
    >>> [(row.metric, row.value, row.low, row.high, row.n) for row in rates.results]

    Args:
        annotations: A file in alpaca_eval's format.
        outputs: The model's model_outputs.json or run, to check that these outputs were judged.
        output: Keep the numbers under this folder of results, where :func:`table` finds them; no text.
        gamed: As :func:`rescore_judgments` takes it, and so are ``folds``, ``c`` and ``calibration``.
        folds: How rows are dealt.
        c: LC's regularisation constant.
        partial: Count rows without a preference as failed, and score the others.
        positional: Difficulties by row number, as alpaca_eval takes them: only for parity with numbers published so.
        calibration: File that :func:`calibrate_judge` wrote.

    Raises:
        UserError: If a file has another form, or the annotations are of other outputs.
    """
    how = scoring(gamed, folds, partial, c)
    texts = judge.find(folder_of(outputs), how.partial).outputs if outputs is not None else None
    found = score_files(Path(annotations), texts, how, positional)
    mapping = calibration_of(calibration)
    rows = _rows(found.score, mapping)
    folder = rescored.keep(Path(output), Path(annotations), found, rows, mapping) if output is not None else None
    return WinRates(found.score, rows, tuple(found.flags), folder)


def scoring(gamed: AnyPath | None, folds: FoldMode, partial: bool, c: float | None) -> Scoring:
    """Returns how judgments become a number.

    Raises:
        UserError: If C is outside the grid of the published recipe.
    """
    if c is not None and not SMALLEST_C <= c <= LARGEST_C:
        raise UserError(f"--c {c!r} must be from {SMALLEST_C} to {LARGEST_C:.0f}, the ends of the grid of the published recipe")
    return Scoring(None if gamed is None else Path(gamed), folds, partial, c=c)


def calibration_of(path: AnyPath | None) -> Calibration | None:
    """Returns the calibration in a file; None without a file."""
    return None if path is None else read_calibration(Path(path))


def _rows(found: Score, calibration: Calibration | None) -> tuple[Result, ...]:
    return judge.with_calibration(found, results(found), calibration)
