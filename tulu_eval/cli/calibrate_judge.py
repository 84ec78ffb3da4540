"""``tulu-eval calibrate-judge``: how far another judge can stand in for the original."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import click

import tulu_eval
from tulu_eval.cli import asking
from tulu_eval.cli.common import FOR_REAL, print_json, print_text, say, then, then_same
from tulu_eval.cli.numeric import WHOLE

if TYPE_CHECKING:
    from tulu_eval.api.asking import AskingOptions


@click.command(no_args_is_help=True)
@click.argument("annotations", nargs=-1, required=True, type=click.Path(path_type=Path))
@asking.judge_options
@click.option("--limit", type=WHOLE, default=400, show_default=True,
              help="Pairs to judge, drawn by length difference and by the original's preference.")  # fmt: skip
@click.option("--output", "-o", required=True, type=click.Path(path_type=Path),
              help="File to write; --calibration of judge and score reads it.")  # fmt: skip
def calibrate_judge(
    annotations: tuple[Path, ...],
    judge_name: str | None,
    limit: int,
    output: Path,
    yes: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    **options: Unpack[AskingOptions],
) -> None:
    r"""Measure a replacement judge against the original.

    ANNOTATIONS are published annotations.json files with gpt-4-1106-preview's verdicts, one file per model. The replacement
    judges a sample of their pairs. The report has agreement, kappa, bias by length and by position, and the mapping of its win
    rates to the original's with the error that the mapping adds. A mapped win rate is an estimate with a name of its own.

    \b
    Examples:
      tulu-eval calibrate-judge alpaca-7b.json claude-2.json --judge gpt-4.1 -o gpt-4.1.json --dry-run
      tulu-eval judge RUN --judge gpt-4.1 --calibration gpt-4.1.json
    """
    from tulu_eval.judging.calibrate_judge import describe
    from tulu_eval.reports import judge as report

    if dry_run:
        plan = tulu_eval.plan_calibration(annotations, judge_name or "", limit=limit, **options)
        print_text("\n\n".join([str(plan.estimate), *plan.prompts]), exact=True)
        then_same(FOR_REAL, quiet=quiet)
        return
    found = tulu_eval.calibrate_judge(
        annotations, judge_name or "", output=output, limit=limit,
        confirm=asking.consent(yes=yes, max_cost=options.get("max_cost"), quiet=quiet),
        progress=asking.Answers(quiet=quiet), **options,
    )  # fmt: skip
    if as_json:
        print_json(dataclasses.asdict(found.calibration))
    else:
        print_text(describe(found.calibration))
    if not quiet:
        say("", report.spent(found.spent), str(found.output))
        then("judge", "RUN", "--judge", found.calibration.judge, "--calibration", found.output, quiet=as_json)
