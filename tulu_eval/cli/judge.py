"""``tulu-eval judge``: what a judge says of a model's outputs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import click

import tulu_eval
from tulu_eval.cli import asking
from tulu_eval.cli.common import FOR_REAL, print_json, print_text, say, then_same, then_verify
from tulu_eval.cli.names import FILE, complete
from tulu_eval.cli.numeric import WHOLE

if TYPE_CHECKING:
    from tulu_eval.cli.asking import JudgeOptions
    from tulu_eval.runs.labelling import LabelledRun


@click.command(no_args_is_help=True)
@click.argument("target", metavar="RUN_OR_OUTPUTS", type=FILE)
@asking.judge_options
@asking.scoring_options
@click.option("--data", type=click.Path(path_type=Path),
              help="Copy of alpaca_eval_gpt4_baseline.json, or with --method ranking of alpaca_eval.json; the hub's pinned "
              "one unless given.")  # fmt: skip
@click.option("--judge-model", "models", multiple=True, metavar="ROLE=MODEL",
              help="Model of a judge that runs here, as --model of run takes it; the published one unless given. truthfulqa: "
              "truth and info; toxigen: classifier.")  # fmt: skip
@click.option("--backend", default="auto", show_default=True, shell_complete=complete("tulu_eval.backends"),
              help="truthfulqa: the judges' engine, transformers or vllm.")  # fmt: skip
@click.option("--limit", type=WHOLE, help="Judge only the first LIMIT instructions.")
@click.option("--output", "-o", type=click.Path(path_type=Path),
              help="Folder to write; beside the run, or under results/, unless given.")  # fmt: skip
def judge(
    target: Path,
    judge_name: str | None,
    data: Path | None,
    models: tuple[str, ...],
    backend: str,
    limit: int | None,
    output: Path | None,
    yes: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    **options: Unpack[JudgeOptions],
) -> None:
    r"""Judge a model's answers.

    RUN_OR_OUTPUTS is a run folder of alpaca-eval, or a file in the form of alpaca_eval's model_outputs.json. A judge compares
    each output with the baseline's. A run of xstest is labelled by one judge, with the question behind the cards' two columns;
    truthfulqa's generated answers are labelled by two models that score a word, toxigen's by a classifier.

    Every answer is kept as it comes: the same command again asks only what failed, and pays for nothing twice. All 805 are
    accounted for, as judged, failed or identical; if the judge failed, the exit code is 1. The judge behind the published
    numbers is no longer served, so another judge's number has a column of its own.

    \b
    Examples:
      tulu-eval judge results/my-checkpoint/alpaca-eval/alpacaeval2-805-1a2b3c4d --judge gpt-4.1 --dry-run
      tulu-eval judge model_outputs.json --judge gpt-4.1 --max-cost 8
      tulu-eval judge RUN --judge gpt-4 --method ranking --max-cost 30    # AlpacaEval 1
      tulu-eval judge RUN --judge llama-3-70b --judge-url http://127.0.0.1:8000/v1 --yes
      tulu-eval judge XSTEST_RUN --data xstest_v2_prompts.csv --judge gpt-4.1 --max-cost 2
      tulu-eval judge TRUTHFULQA_RUN --data TruthfulQA.csv --judge-model truth=./truth --judge-model info=./info
      tulu-eval judge RUN --judge-vllm meta-llama/Meta-Llama-3-8B-Instruct
    """
    from tulu_eval.reports import judge as report
    from tulu_eval.runs.labelling import LabelledRun

    judges = _named(models)
    if dry_run:
        plan = tulu_eval.plan_judging(
            target, judge_name or "", limit=limit, data=data, judge_models=judges, backend=backend, **options
        )
        print_text("\n\n".join([str(plan.estimate), *plan.flags, *plan.prompts]), exact=True)
        then_same(FOR_REAL, quiet=quiet)
        return
    done = tulu_eval.judge(
        target, judge_name or "", limit=limit, data=data, output=output, judge_models=judges, backend=backend,
        progress=asking.Answers(quiet=quiet),
        confirm=asking.consent(yes=yes, max_cost=options.get("max_cost"), quiet=quiet), **options,
    )  # fmt: skip
    if isinstance(done, LabelledRun):
        _print_labels(done, target, as_json=as_json, quiet=quiet)
        return
    outcome = done.outcome
    for line in report.failures(outcome, quiet=quiet):
        say(f"tulu-eval: {line}")
    if as_json:
        print_json({"folder": str(done.folder), **report.as_json(outcome.score, outcome.results, done.flags)})
    else:
        print_text(report.as_text(outcome.score, outcome.results, done.flags))
        if not quiet:
            say("", report.spent(outcome.judging.spent), str(done.folder))
        then_verify(target, quiet=quiet)
    if outcome.score.errors:
        raise click.exceptions.Exit(1)


def _print_labels(done: LabelledRun, target: Path, *, as_json: bool, quiet: bool) -> None:
    """Prints the numbers of labels; raises Exit with the code 1 if a judge failed."""
    from tulu_eval.reports import labelled_run as report

    if as_json:
        print_json({"folder": str(done.folder), **report.as_json(done)})
    else:
        print_text(report.as_text(done))
        if not quiet:
            say("", str(done.folder))
        then_verify(target, quiet=quiet)
    if done.failed:
        raise click.exceptions.Exit(1)


def _named(values: tuple[str, ...]) -> dict[str, str]:
    """Returns the models by role; raises BadParameter if a value is not ROLE=MODEL, or a role comes twice."""
    found: dict[str, str] = {}
    for value in values:
        role, _, model = value.partition("=")
        if not model or role in found:
            raise click.BadParameter(f"--judge-model {value} is not ROLE=MODEL, each role once")
        found[role] = model
    return found
