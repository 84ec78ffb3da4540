"""Asks judges about a model's answers, or says what it would cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from tulu_eval.api.asking import AskingOptions, Confirm, Counter, JudgingPlan, asking_of, counting, settle
from tulu_eval.api.label import label, plan_labels
from tulu_eval.api.paths import AnyPath
from tulu_eval.api.runs import Run, folder_of
from tulu_eval.api.score import calibration_of, scoring
from tulu_eval.api.words import spoken
from tulu_eval.errors import UserError
from tulu_eval.judging.judge_recipe import Method, preview
from tulu_eval.judging.session import JudgingOutcome, prepare
from tulu_eval.runs import judge as judge_runs
from tulu_eval.runs.labelling import LabelledRun, judged_benchmark

if TYPE_CHECKING:
    from tulu_eval.stats.length_control import FoldMode


@dataclasses.dataclass(frozen=True, slots=True)
class JudgedRun:
    """Outputs that a judge has judged.

    Attributes:
        outcome: Every pair accounted for, and the numbers.
        flags: Oddities of the outputs, one line each.
    """

    outcome: JudgingOutcome
    flags: tuple[str, ...]
    folder: Path


@spoken
def judge(
    run_or_outputs: Run | AnyPath,
    judge: str = "",
    *,
    url: str | None = None,
    vllm: str | None = None,
    method: Method = "logprobs",
    max_cost: float | None = None,
    confirm: Confirm = False,
    limit: int | None = None,
    data: AnyPath | None = None,
    output: AnyPath | None = None,
    price: str | tuple[float, float] | None = None,
    prices: AnyPath | None = None,
    cache: AnyPath | None = None,
    concurrency: int = 8,
    timeout: float = 120.0,
    gamed: AnyPath | None = None,
    folds: FoldMode = "leaderboard",
    c: float | None = None,
    partial: bool = False,
    calibration: AnyPath | None = None,
    judge_models: Mapping[str, AnyPath] | None = None,
    backend: str = "auto",
    progress: bool | Counter = True,
) -> JudgedRun | LabelledRun:
    """Asks a judge to compare each output with the baseline's, or to label each answer, and writes the numbers beside the run.

    Outputs of alpaca-eval are compared. A run of xstest is labelled by the one judge, a run of truthfulqa by two models.

    Every answer is kept as it comes: the same call again asks only what failed, and pays for nothing twice.

    >>> done = tulu_eval.judge("results/my-checkpoint/alpaca-eval/alpacaeval2-805-1a2b3c4d", "gpt-4.1", max_cost=8.0)
    >>> [(row.metric, row.value, row.low, row.high, row.n) for row in done.outcome.results]

    Args:
        run_or_outputs: A run of alpaca-eval, xstest or truthfulqa's ``generation``, or a file in the form of
            alpaca_eval's model_outputs.json.
        judge: The judge's name at its endpoint.
        url: OpenAI-compatible endpoint; OpenAI's own unless given. Keys come from the environment: TULU_EVAL_JUDGE_KEY, for
            OpenAI also OPENAI_API_KEY, for Azure AZURE_OPENAI_API_KEY.
        vllm: Judge with a vLLM engine in this process instead: a model as :func:`evaluate` takes it.
        method: ``logprobs`` weighs m against M, as published; ``text`` reads the answer, which makes another number.
            ``ranking`` asks AlpacaEval 1's question about text_davinci_003's outputs; published with the judge gpt-4.
        max_cost: Most dollars; judging stops before it would cost more.
        confirm: True if it may cost the estimate; or a function that gets the estimate first and raises to stop.
        limit: Number of instructions, the first ones; all unless given.
        data: Copy of alpaca_eval_gpt4_baseline.json, with ``ranking`` of alpaca_eval.json; the hub's unless given.
            For a run of another benchmark: its data, as :func:`evaluate` takes it.
        output: Folder to write; beside the run, or under ``results``, unless given.
        price: Dollars per million tokens of prompts and answers, instead of the table's.
        prices: A price table of your own (TOML).
        cache: File of this judge's answers; in the user's cache unless given.
        concurrency: Requests in flight.
        timeout: Seconds for one answer.
        gamed: As :func:`rescore_judgments` takes it, and so are ``folds``, ``c``, ``partial`` and ``calibration``.
        folds: How rows are dealt when LC's regularisation is chosen.
        c: LC's regularisation constant.
        partial: Take fewer than 805.
        calibration: File that :func:`calibrate_judge` wrote.
        judge_models: Models as :func:`evaluate` takes one, the published unless given: ``truth`` and ``info`` for truthfulqa,
            ``classifier`` for toxigen.
        backend: truthfulqa: the judges' engine, ``transformers`` or ``vllm``; chosen as by :func:`evaluate` unless given.
        progress: Draw a bar; or a function that gets the number of answers so far and of all; threads call it.

    Raises:
        UserError: If the outputs, the judge or the disk fail, or nobody agreed to the costs; paid answers are kept.
    """
    options: AskingOptions = {
        "url": url, "vllm": vllm, "method": method, "max_cost": max_cost, "price": price, "prices": prices, "cache": cache,
        "concurrency": concurrency, "timeout": timeout,
    }  # fmt: skip
    if (benchmark := judged_benchmark(folder_of(run_or_outputs))) is not None:
        _refuse_scoring(benchmark.name, limit=limit, output=output, gamed=gamed, calibration=calibration)
        file = None if data is None else Path(data)
        return label(folder_of(run_or_outputs), benchmark, judge, file, judge_models, backend, confirm, progress, **options)
    _refuse_models(judge_models)
    asking = asking_of(judge, **options)
    how, mapping = scoring(gamed, folds, partial, c), calibration_of(calibration)
    found = judge_runs.find(folder_of(run_or_outputs), partial)
    folder = judge_runs.folder_of(found, asking.recipe, limit) if output is None else Path(output)
    with asking.job(read_only=False) as job:
        ready = prepare(found.outputs, job, how, None if data is None else Path(data), limit)
        settle(ready.estimate, confirm, max_cost)
        asked = ready.estimate.requests
        with asking.endpoint(needed=asked > 0) as endpoint, counting(progress, asked) as told:
            outcome = judge_runs.judge(ready, endpoint, folder, mapping, told)
    return JudgedRun(outcome, tuple(ready.screen.flags), folder)


@spoken
def plan_judging(
    run_or_outputs: Run | AnyPath,
    judge: str = "",
    *,
    limit: int | None = None,
    data: AnyPath | None = None,
    gamed: AnyPath | None = None,
    folds: FoldMode = "leaderboard",
    c: float | None = None,
    partial: bool = False,
    calibration: AnyPath | None = None,
    judge_models: Mapping[str, AnyPath] | None = None,
    backend: str = "auto",
    **asking: Unpack[AskingOptions],
) -> JudgingPlan:
    """Returns what :func:`judge` would cost, and three of the judge's prompts; sends nothing.

    >>> print(tulu_eval.plan_judging("model_outputs.json", "gpt-4.1").estimate)

    Args:
        run_or_outputs: As :func:`judge` takes it, and so are all that follow.
        judge: The judge's name.
        limit: Number of instructions, the first ones; all unless given.
        data: Copy of the baseline's outputs.
        gamed: Copy of df_gamed.csv.
        folds: How rows are dealt.
        c: LC's regularisation constant.
        partial: Take fewer than 805.
        calibration: File that :func:`calibrate_judge` wrote.
        judge_models: As :func:`judge` takes it.
        backend: As :func:`judge` takes it.
        asking: As :func:`calibrate_judge` takes it.

    Raises:
        UserError: If something is wrong that can be found without the judge.
    """
    if (benchmark := judged_benchmark(folder_of(run_or_outputs))) is not None:
        _refuse_scoring(benchmark.name, limit=limit, output=None, gamed=gamed, calibration=calibration)
        file = None if data is None else Path(data)
        return plan_labels(folder_of(run_or_outputs), benchmark, judge, file, judge_models, backend, **asking)
    _refuse_models(judge_models)
    asked = asking_of(judge, **asking)
    how = scoring(gamed, folds, partial, c)
    calibration_of(calibration)
    found = judge_runs.find(folder_of(run_or_outputs), partial)
    with asked.job(read_only=True) as job:
        ready = prepare(found.outputs, job, how, None if data is None else Path(data), limit)
    return JudgingPlan(ready.estimate, tuple(ready.screen.flags), tuple(preview(ready.pairs, asked.recipe)))


def _refuse_scoring(benchmark: str, **given: object) -> None:
    """Raises UserError if something is given that only AlpacaEval's scoring has."""
    if odd := [name for name, value in given.items() if value is not None]:
        raise UserError(f"--{odd[0]} goes with alpaca-eval, and this is a run of {benchmark}")


def _refuse_models(models: Mapping[str, AnyPath] | None) -> None:
    if models:
        raise UserError("--judge-model goes with a run of truthfulqa; who judges? --judge NAME, or --judge-vllm MODEL")
