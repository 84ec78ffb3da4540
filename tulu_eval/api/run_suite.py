"""Measures a suite of benchmarks with one engine start."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

from tulu_eval.api.evaluate import RunOptions, plan
from tulu_eval.api.models import load_suite
from tulu_eval.api.paths import AnyPath
from tulu_eval.api.runs import Run
from tulu_eval.api.silence import silence
from tulu_eval.api.words import spoken
from tulu_eval.benchmarks.suites import Member
from tulu_eval.errors import PreflightError, UserError
from tulu_eval.findings.averages import MeasuredAverage, averages
from tulu_eval.runs import catalog
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.run_plan import Plan
from tulu_eval.runs.runner import execute_each
from tulu_eval.runs.suite_plan import SuitePlan, Unmeasured
from tulu_eval.store.manifest import read_manifest


@dataclasses.dataclass(frozen=True, slots=True)
class SuiteRun:
    """What a suite measured.

    Attributes:
        unmeasured: Benchmarks that could not be measured here and were skipped.
        failed: Benchmarks whose engine failed; the same call goes on with what their ledgers have.
        averages: The card's average by each rule that explains a printed one; empty if none of its columns was measured.
    """

    suite: str
    runs: tuple[Run, ...]
    unmeasured: tuple[Unmeasured, ...]
    failed: tuple[Unmeasured, ...]
    averages: tuple[MeasuredAverage, ...] = ()


@spoken
def plan_suite(
    suite: str,
    model: AnyPath,
    *,
    name: str = "",
    data: Mapping[str, AnyPath] | None = None,
    registry: AnyPath | None = None,
    **options: Unpack[RunOptions],
) -> SuitePlan:
    """Returns what :func:`evaluate_suite` would do, and what cannot be measured here; loads no weights.

    >>> planned = tulu_eval.plan_suite("tulu-2.5", "allenai/tulu-2-dpo-7b", data={"bbh": "BIG-Bench-Hard"})
    >>> [(one.benchmark, one.why) for one in planned.unmeasured]

    Args:
        suite: Name of the suite.
        model: As :func:`evaluate` takes it.
        name: Name under which a local model's results are filed.
        data: Files or folders to read instead of benchmarks' own sources, by benchmark.
        registry: TOML file with models and published numbers of your own.
        options: As :func:`evaluate` takes them, except ``protocol``, which the suite fixes; ``limit`` replaces the suite's own.

    Raises:
        UserError: If there is no such suite, or data is given for a benchmark that is not in it.
    """
    if options.get("protocol"):
        raise UserError(f"--protocol goes with one benchmark; {suite} fixes those of its own")
    members = catalog.suite(suite).members
    files = dict(data or {})
    if odd := [name for name in files if name not in {member.benchmark for member in members}]:
        raise UserError(f"--data {odd[0]}: {suite} has no such benchmark")
    plans: list[Plan] = []
    unmeasured: list[Unmeasured] = []
    for member in members:
        try:
            plans.append(_plan(member, model, name, files.get(member.benchmark), registry, options))
        except UserError as error:
            unmeasured.append(Unmeasured(member.benchmark, member.protocol or "", error.command_line))
    if not plans and len({one.why for one in unmeasured}) == 1:  # the model, not the benchmarks
        raise PreflightError(unmeasured[0].why)
    return SuitePlan(suite, tuple(plans), tuple(unmeasured))


@spoken
def evaluate_suite(
    suite: str,
    model: AnyPath,
    *,
    name: str = "",
    data: Mapping[str, AnyPath] | None = None,
    skip_unavailable: bool = False,
    registry: AnyPath | None = None,
    progress: bool | Progress = True,
    **options: Unpack[RunOptions],
) -> SuiteRun:
    """Evaluates a model on all benchmarks of a suite with one engine start; a benchmark that fails does not stop the next.

    >>> done = tulu_eval.evaluate_suite("tulu-2.5", "allenai/tulu-2-dpo-7b", data={"bbh": "BIG-Bench-Hard"})
    >>> [run.results[0].value for run in done.runs]

    Args:
        suite: Name of the suite.
        model: As :func:`evaluate` takes it.
        name: Name under which a local model's results are filed.
        data: Files or folders to read instead of benchmarks' own sources, by benchmark.
        skip_unavailable: Measure the others if some cannot be measured here.
        registry: TOML file with models and published numbers of your own.
        progress: Draw a bar; or a :class:`Progress` that shows it.
        options: As for :func:`plan_suite`.

    Raises:
        PreflightError: If a benchmark cannot be measured here, before anything is loaded.
        UserError: If nothing can be measured, or at Ctrl-C.
    """
    planned = plan_suite(suite, model, name=name, data=data, registry=registry, **options)
    if planned.unmeasured and not (skip_unavailable and planned.plans):
        total = len(planned.plans) + len(planned.unmeasured)
        reasons = "; ".join(f"{one.benchmark}: {one.why}" for one in planned.unmeasured)
        advice = ". --skip-unavailable measures the others" if planned.plans else ""
        raise PreflightError(
            f"{len(planned.unmeasured)} of {total} benchmarks of {suite} cannot be measured here: {reasons}{advice}"
        )
    shown = progress if isinstance(progress, Progress) else Progress(quiet=not progress, terminal=True)
    with silence(progress is False):
        outcomes = execute_each(planned.plans, shown, fresh=options.get("fresh", False))
    pairs = list(zip(planned.plans, outcomes, strict=True))
    runs = tuple(
        Run(one.folder, read_manifest(one.folder), one.results, one.tally, speed=one.speed, notices=made.notices)
        for made, one in pairs
        if not isinstance(one, UserError)
    )
    failed = tuple(
        Unmeasured(made.benchmark.name, made.protocol.name, one.command_line)
        for made, one in pairs
        if isinstance(one, UserError)
    )
    found = averages(load_suite(registry), [row for run in runs for row in run.results])
    return SuiteRun(suite, runs, planned.unmeasured, failed, found)


def _plan(
    member: Member, model: AnyPath, name: str, data: AnyPath | None, registry: AnyPath | None, options: RunOptions
) -> Plan:
    own: dict[str, Any] = {**options, "protocol": member.protocol, "limit": options.get("limit") or member.limit}
    return plan(member.benchmark, model, name=name, data=None if data is None else Path(data), registry=registry, **own)
