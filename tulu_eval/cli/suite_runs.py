"""What ``tulu-eval run`` does with the name of a suite."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

import tulu_eval
from tulu_eval.cli.common import FOR_REAL, end_with_failures, print_json, print_text, then, then_same

if TYPE_CHECKING:
    from tulu_eval.api.evaluate import RunOptions
    from tulu_eval.runs.suite_plan import SuitePlan


def members(suites: list[str]) -> tuple[str, ...]:
    """Returns the benchmarks of a suite, each once; empty without one."""
    from tulu_eval.runs import catalog

    return tuple(dict.fromkeys(member.benchmark for name in suites for member in catalog.suite(name).members))


def run_suite(
    suite: str,
    models: list[tuple[str, str]],
    files: dict[str, Path],
    skip_unavailable: bool,
    registry: Path | None,
    order: RunOptions,
    quiet: bool,
    as_json: bool,
) -> None:
    """Measures a suite of each model, given as pairs of model and name, and prints a table per model."""
    from tulu_eval.reports import run as run_report
    from tulu_eval.reports import suite_table
    from tulu_eval.runs.progress import Progress

    progress = Progress(quiet=quiet)
    done = [
        tulu_eval.evaluate_suite(
            suite,
            model,
            name=name,
            data=files,
            skip_unavailable=skip_unavailable,
            registry=registry,
            progress=progress,
            **order,
        )
        for model, name in models
    ]
    if as_json:
        print_json(
            [
                {
                    "suite": one.suite,
                    "runs": [run_report.as_json(run.folder, run.results, run.tally) for run in one.runs],
                    "unmeasured": [dataclasses.asdict(missing) for missing in one.unmeasured],
                    "failed": [dataclasses.asdict(missing) for missing in one.failed],
                    "averages": [dataclasses.asdict(average) for average in one.averages],
                }
                for one in done
            ]
        )
    else:
        for one in done:
            rows = [row for run in one.runs for row in run.results]
            print_text(suite_table.of_rows(rows, (*one.unmeasured, *one.failed), one.averages))
            for run in one.runs:
                progress.say(str(run.folder))
        then("table", "--suite", "--results", order.get("output", "results"), quiet=quiet)
    end_with_failures([run for one in done for run in one.runs], "the same command tries them again")
    if any(one.failed for one in done):
        raise click.exceptions.Exit(1)


def show_suites(planned: list[SuitePlan], as_json: bool) -> None:
    """Prints the plan of a suite per model."""
    from tulu_eval.reports import suite_table

    if as_json:
        print_json([suite_table.plan_as_json(one) for one in planned])
    else:
        print_text("\n\n".join(map(suite_table.plan_as_text, planned)))
        then_same(FOR_REAL)
