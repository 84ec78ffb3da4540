"""The command line: parse, call, print. One file per verb; no logic."""

from __future__ import annotations

import click

from tulu_eval.cli import (
    audit,
    bundle,
    calibrate_judge,
    card,
    compare,
    compare_outputs,
    doctor,
    explain,
    import_file,
    judge,
    list_known,
    merge,
    models,
    plan,
    report,
    reproduce,
    run,
    score,
    table,
    train,
    verify,
)
from tulu_eval.cli.common import Verbs
from tulu_eval.version import __version__


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="tulu-eval")
@click.option("--debug", is_flag=True, help="Show the traceback of an error; may stand anywhere.")
def cli(debug: bool) -> None:
    r"""Measure a language model with the exact recipe behind a published number, and say whether the two agree.

    \b
    Examples:
      tulu-eval run gsm-symbolic --model smollm2-135m-instruct --limit 24
      tulu-eval run gsm8k --model allenai/llama-3-tulu-v2.5-8b-uf-mean-70b-uf-rm
      tulu-eval verify results/my-checkpoint/gsm8k/card-200-1a2b3c4d --as tulu-2-13b
      tulu-eval table
      tulu-eval report
      tulu-eval models --stage PPO
      tulu-eval doctor
    """


cli.add_command(run.run)
cli.add_command(merge.merge)
cli.add_command(score.score)
cli.add_command(verify.verify)
cli.add_command(explain.explain)
cli.add_command(compare.compare)
cli.add_command(audit.audit)
cli.add_command(plan.plan)
cli.add_command(import_file.import_file)
cli.add_command(table.table)
cli.add_command(report.report)
cli.add_command(list_known.list_known)
cli.add_command(models.models)
cli.add_command(card.card)
cli.add_command(bundle.bundle)
cli.add_command(bundle.verify_bundle)
cli.add_command(judge.judge)
cli.add_command(compare_outputs.compare_outputs)
cli.add_command(calibrate_judge.calibrate_judge)
cli.add_command(train.train)
cli.add_command(reproduce.reproduce)
cli.add_command(doctor.doctor)


def main() -> None:
    """Runs the command line; the entry point of the console script."""
    cli.main()
