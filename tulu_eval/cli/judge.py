"""``tulu-eval judge``: what a judge says of a model's outputs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import click

import tulu_eval
from tulu_eval.cli import asking
from tulu_eval.cli.common import print_json, print_text, say
from tulu_eval.cli.numeric import WHOLE

if TYPE_CHECKING:
    from tulu_eval.cli.asking import JudgeOptions


@click.command(no_args_is_help=True)
@click.argument("target", metavar="RUN_OR_OUTPUTS", type=click.Path(path_type=Path))
@asking.judge_options
@asking.scoring_options
@click.option("--data", type=click.Path(path_type=Path),
              help="Copy of alpaca_eval_gpt4_baseline.json, or with --method ranking of alpaca_eval.json; the hub's pinned "
              "one unless given.")  # fmt: skip
@click.option("--limit", type=WHOLE, help="Judge only the first LIMIT instructions.")
@click.option("--output", "-o", type=click.Path(path_type=Path),
              help="Folder to write; beside the run, or under results/, unless given.")  # fmt: skip
def judge(
    target: Path,
    judge_name: str | None,
    data: Path | None,
    limit: int | None,
    output: Path | None,
    yes: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    **options: Unpack[JudgeOptions],
) -> None:
    r"""Judge a model's AlpacaEval outputs.

    RUN_OR_OUTPUTS is a run folder of alpaca-eval, or a file in the form of alpaca_eval's model_outputs.json. A judge compares
    each output with the baseline's.

    Every answer is kept as it comes: the same command again asks only what failed, and pays for nothing twice. All 805 are
    accounted for, as judged, failed or identical; if the judge failed, the exit code is 1. The judge behind the published
    numbers is no longer served, so another judge's number has a column of its own.

    \b
    Examples:
      tulu-eval judge results/my-checkpoint/alpaca-eval/alpacaeval2-805-1a2b3c4d --judge gpt-4.1 --dry-run
      tulu-eval judge model_outputs.json --judge gpt-4.1 --max-cost 8
      tulu-eval judge RUN --judge gpt-4 --method ranking --max-cost 30    # AlpacaEval 1
      tulu-eval judge RUN --judge llama-3-70b --judge-url http://127.0.0.1:8000/v1 --yes
      tulu-eval judge RUN --judge-vllm meta-llama/Meta-Llama-3-8B-Instruct
    """
    from tulu_eval.reports import judge as report

    if dry_run:
        plan = tulu_eval.plan_judging(target, judge_name or "", limit=limit, data=data, **options)
        print_text("\n\n".join([str(plan.estimate), *plan.flags, *plan.prompts]))
        return
    done = tulu_eval.judge(
        target, judge_name or "", limit=limit, data=data, output=output, progress=asking.Answers(quiet=quiet),
        confirm=asking.consent(yes=yes, max_cost=options.get("max_cost"), quiet=quiet), **options,
    )  # fmt: skip
    outcome = done.outcome
    for line in report.failures(outcome, quiet=quiet):
        say(f"tulu-eval: {line}")
    if as_json:
        print_json({"folder": str(done.folder), **report.as_json(outcome.score, outcome.results, done.flags)})
    else:
        print_text(report.as_text(outcome.score, outcome.results, done.flags))
        if not quiet:
            say("", report.spent(outcome.judging.spent), str(done.folder))
    if outcome.score.errors:
        raise click.exceptions.Exit(1)
