"""How far another judge can stand in for the original."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from tulu_eval.api.asking import Asking, AskingOptions, Confirm, Counter, JudgingPlan, asking_of, counting, settle
from tulu_eval.api.paths import AnyPath
from tulu_eval.api.words import spoken
from tulu_eval.errors import UserError
from tulu_eval.judging import session
from tulu_eval.judging.budget import Spent
from tulu_eval.judging.calibrate_judge import Calibration, Sampled, draw
from tulu_eval.judging.judge_recipe import ALPACA_EVAL_1, preview
from tulu_eval.judging.record import write_calibration


@dataclasses.dataclass(frozen=True, slots=True)
class Calibrated:
    """A replacement judge, measured against the original.

    Attributes:
        calibration: Agreement, biases, and the mapping of its win rates to the original's.
        spent: Tokens and dollars of this call.
    """

    calibration: Calibration
    spent: Spent
    output: Path


@spoken
def calibrate_judge(
    annotations: Sequence[AnyPath],
    judge: str = "",
    *,
    output: AnyPath,
    limit: int = 400,
    confirm: Confirm = False,
    progress: bool | Counter = True,
    **asking: Unpack[AskingOptions],
) -> Calibrated:
    """Has a replacement judge judge what the original judged, and writes how its win rates map to the original's.

    >>> tulu_eval.calibrate_judge(["alpaca-7b.json", "claude-2.json"], "gpt-4.1", output="gpt-4.1.json", max_cost=5.0)

    Args:
        annotations: Published annotations.json files of gpt-4-1106-preview's verdicts, one per model.
        judge: As :func:`judge` takes it.
        output: File to write, for ``calibration`` of :func:`judge` and :func:`score_annotations`.
        limit: Pairs to judge, drawn by length difference and by the original's preference.
        confirm: As :func:`judge` takes it.
        progress: As :func:`judge` takes it.
        asking: How the judge is asked, as :func:`judge` takes it: ``url``, ``vllm``, ``method``, ``max_cost``, ``price``,
            ``prices``, ``cache``, ``concurrency`` and ``timeout``.

    Raises:
        UserError: If a file has another form or another judge's verdicts, the judge fails, or nobody agreed to the costs.
    """
    how = _asking(judge, asking)
    sample = _drawn(annotations, limit)
    with how.job(read_only=False) as job:
        before = job.estimate([one.annotation.pair for one in sample])
        settle(before, confirm, asking.get("max_cost"))
        asked = before.requests
        with how.endpoint(needed=asked > 0) as endpoint, counting(progress, asked) as told:
            found, judging = session.calibrate_judge(sample, job, endpoint, told)
    write_calibration(Path(output), found)
    return Calibrated(found, judging.spent, Path(output))


@spoken
def plan_calibration(
    annotations: Sequence[AnyPath], judge: str = "", *, limit: int = 400, **asking: Unpack[AskingOptions]
) -> JudgingPlan:
    """Returns what :func:`calibrate_judge` would cost, and three of the judge's prompts; sends nothing.

    >>> print(tulu_eval.plan_calibration(["alpaca-7b.json", "claude-2.json"], "gpt-4.1").estimate)

    Args:
        annotations: As :func:`calibrate_judge` takes them.
        judge: As :func:`judge` takes it.
        limit: Number of pairs to judge.
        asking: As :func:`calibrate_judge` takes it.

    Raises:
        UserError: If something is wrong that can be found without the judge.
    """
    how = _asking(judge, asking)
    pairs = [one.annotation.pair for one in _drawn(annotations, limit)]
    with how.job(read_only=True) as job:
        before = job.estimate(pairs)
    return JudgingPlan(before, (), tuple(preview(pairs, how.recipe)))


def _asking(judge: str, options: AskingOptions) -> Asking:
    if options.get("method") == ALPACA_EVAL_1.method:
        raise UserError("--method ranking is AlpacaEval 1's, and a calibration maps to AlpacaEval 2's judge")
    return asking_of(judge, **options)


def _drawn(annotations: Sequence[AnyPath], size: int) -> list[Sampled]:
    return list(draw(session.annotated({str(path): Path(path) for path in annotations}), size))
