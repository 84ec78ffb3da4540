"""Has judges label a run's answers: what :func:`tulu_eval.judge` does with a run of another benchmark than AlpacaEval."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Unpack

from tulu_eval.api.asking import AskingOptions, Confirm, Counter, JudgingPlan, asking_of, counting, settle
from tulu_eval.api.models import load_suite
from tulu_eval.api.paths import AnyPath
from tulu_eval.backends.base import EngineSettings
from tulu_eval.benchmarks.labelled import LabelledBenchmark
from tulu_eval.errors import UserError
from tulu_eval.judging.budget import JudgingEstimate, Price, estimate
from tulu_eval.judging.label_answers import LabelJob
from tulu_eval.runs import catalog, class_judge, labelling, yes_judge
from tulu_eval.runs.labelling import LabelledRun, ModelJudge, Unlabelled

SHOWN = 3
"""Number of prompts that a plan shows."""


def label(
    folder: Path,
    benchmark: LabelledBenchmark,
    judge: str,
    data: Path | None,
    models: Mapping[str, AnyPath] | None,
    backend: str,
    confirm: Confirm,
    progress: bool | Counter,
    **asking: Unpack[AskingOptions],
) -> LabelledRun:
    """Labels a run's answers; the arguments are as for :func:`tulu_eval.judge`.

    Raises:
        UserError: If the run, its data or a judge cannot be used, or nobody agreed to the costs.
    """
    if "chat" not in benchmark.judges:
        _refuse_words(benchmark, judge, asking)
        found = labelling.find(folder, benchmark, data)
        judges = _judges(found, models, backend)
        with counting(progress, sum(len(one.requests) for one in judges.values())) as told:
            return labelling.by_models(found, judges, told)
    _refuse_models(benchmark, models)
    how = asking_of(judge, labelled=benchmark, **asking)
    found = labelling.find(folder, benchmark, data)
    with how.job(read_only=False) as job:
        missing = LabelJob(job, benchmark, found.prompts("chat")).missing()
        settle(estimate(missing, job.budget.price), confirm, asking.get("max_cost"))
        with how.endpoint(needed=bool(missing)) as endpoint, counting(progress, len(missing)) as told:
            return labelling.by_words(found, job, endpoint, told)


def plan_labels(
    folder: Path,
    benchmark: LabelledBenchmark,
    judge: str,
    data: Path | None,
    models: Mapping[str, AnyPath] | None,
    backend: str,
    **asking: Unpack[AskingOptions],
) -> JudgingPlan:
    """Returns what :func:`label` would ask; loads no weights and sends nothing."""
    if "chat" not in benchmark.judges:
        _refuse_words(benchmark, judge, asking)
        judges = _judges(labelling.find(folder, benchmark, data), models, backend)
        asked, tokens = sum(len(one.requests) for one in judges.values()), sum(one.tokens for one in judges.values())
        free = Price(0.0, 0.0, "engines in this process")
        prompts = [text for judge in judges.values() for text in judge.texts(SHOWN)]
        return JudgingPlan(JudgingEstimate(asked, tokens, 0, 0.0, free), (), tuple(prompts))
    _refuse_models(benchmark, models)
    how = asking_of(judge, labelled=benchmark, **asking)
    found = labelling.find(folder, benchmark, data)
    with how.job(read_only=True) as job:
        questions = LabelJob(job, benchmark, found.prompts("chat"))
        before = estimate(questions.missing(), job.budget.price)
    return JudgingPlan(before, (), tuple(list(questions.prompts.values())[:SHOWN]))


def _judges(found: Unlabelled, models: Mapping[str, AnyPath] | None, backend: str) -> dict[str, ModelJudge]:
    """Returns the judges with their requests, the published model of each role that is not named.

    Raises:
        UserError: If there is no such role, or a model cannot be used.
    """
    roles = found.benchmark.judges
    given = {role: str(model) for role, model in (models or {}).items()}
    if odd := [role for role in given if role not in roles]:
        raise UserError(f"--judge-model {odd[0]}=...: the judges of {found.benchmark.name} are {' and '.join(roles)}")
    engine = catalog.backend(catalog.default_backend() if backend == "auto" else backend)
    if not engine.local:
        raise UserError(f"--backend {backend}: a judge of {found.benchmark.name} runs in this process")
    suite = load_suite()
    if "classifier" in roles:
        if backend not in ("auto", class_judge.ENGINE):
            raise UserError(f"--backend {backend}: the classifier of {found.benchmark.name} runs in {class_judge.ENGINE}")
        return {role: class_judge.prepare(given.get(role, name), found.prompts(role), suite) for role, name in roles.items()}
    return {
        role: yes_judge.prepare(given.get(role, name), found.prompts(role), engine, EngineSettings(), suite)
        for role, name in roles.items()
    }


def _refuse_words(benchmark: LabelledBenchmark, judge: str, asking: AskingOptions) -> None:
    if judge or asking.get("url") or asking.get("vllm"):
        roles = " and ".join(benchmark.judges)
        raise UserError(f"the judges of {benchmark.name}, {roles}, are models in this process: give them by --judge-model")


def _refuse_models(benchmark: LabelledBenchmark, models: Mapping[str, AnyPath] | None) -> None:
    if models:
        raise UserError(
            f"--judge-model is for models in this process; who judges {benchmark.name}? --judge NAME or --judge-vllm MODEL"
        )
