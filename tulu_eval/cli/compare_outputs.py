"""``tulu-eval compare-outputs``: a model's outputs against published ones, without a judge."""

from __future__ import annotations

from pathlib import Path

import click

import tulu_eval
from tulu_eval.cli.common import print_json, print_text, then
from tulu_eval.cli.names import FILE


@click.command(no_args_is_help=True)
@click.argument("outputs", metavar="RUN_OR_OUTPUTS", type=FILE)
@click.option("--with", "reference", required=True, metavar="REFERENCE", type=click.Path(path_type=Path),
              help="Published model_outputs.json or annotations.json, or another run folder.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print as JSON on stdout.")
def compare_outputs(outputs: Path, reference: Path, as_json: bool) -> None:
    r"""Compare AlpacaEval outputs with published ones.

    Prints how many outputs are equal in every character, where the others first differ, the ratio of lengths, and how many
    published judgments still apply. Either side may have fewer than 805 outputs.

    \b
    Examples:
      tulu-eval compare-outputs results/mine/alpaca-eval/alpacaeval2-805-1a2b3c4d --with model_outputs.json
      tulu-eval compare-outputs model_outputs.json --with annotations.json --json
    """
    from tulu_eval.reports import judge as report

    found = tulu_eval.compare_outputs(outputs, reference)
    if as_json:
        print_json(report.comparison_as_json(found))
    else:
        print_text(str(found))
        then("judge", outputs, "--judge", "JUDGE", "--dry-run")
