"""``tulu-eval verify``: does a run agree with what was published?"""

from __future__ import annotations

from pathlib import Path

import click

import tulu_eval
from tulu_eval.cli.common import print_json, print_text, registry_option, then
from tulu_eval.cli.names import RUN, complete_models


@click.command(no_args_is_help=True)
@click.argument("folder", metavar="RUN", type=RUN)
@click.option("--as", "stand_in", metavar="NAME", shell_complete=complete_models,
              help="Compare with the published numbers of this model, e.g. for a local checkpoint; the weights then count as "
              "others, which asks for a larger gap. A run without numbers of its own remembers it.")  # fmt: skip
@click.option(
    "--partial",
    is_flag=True,
    help="Compare a run of fewer items: a limited one, or the whole beginning of one that was stopped; n is said.",
)
@click.option("--strict", is_flag=True, help="Exit code 1 if the run is inconsistent with any published number.")
@registry_option
@click.option("--json", "as_json", is_flag=True, help="Print as JSON on stdout.")
def verify(folder: Path, stand_in: str | None, partial: bool, strict: bool, registry: Path | None, as_json: bool) -> None:
    r"""Say whether a run agrees with what was published.

    RUN is a run folder; it is compared with every published number of its model and benchmark.

    \b
    Three verdicts:
      inconsistent   chance alone would rarely give a gap this large (p < 0.05)
      consistent     it would, and a gap of 5 points would have shown
      cannot tell    it would, and a gap of 5 points would not have shown

    With each: the p-value, the smallest gap that would have been found, the contradiction if the record has one, and which
    settings differ from the published recipe. A run over all items is compared on the published ones, and as a whole beside.
    A win rate by another judge than the published one cannot tell, unless 'calibrate-judge' and 'judge --calibration' map it.

    \b
    Examples:
      tulu-eval verify results/allenai__tulu-2-13b/gsm8k/card-200-1a2b3c4d
      tulu-eval verify results/my-checkpoint/gsm8k/full-1a2b3c4d --as tulu-2-dpo-13b
      tulu-eval verify RUN --strict --json > verdict.json
    """
    from tulu_eval.reports import verify as verify_report

    found = tulu_eval.verify(folder, against=stand_in, partial=partial, registry=registry)
    if as_json:
        print_json(verify_report.as_json(found))
    else:
        print_text(verify_report.as_text(found))
        stood = ("--as", stand_in) if stand_in else ()
        then(*("explain", folder, *stood, "--max-items", 0) if found.next_step else ("bundle", folder))
    if strict and found.inconsistent:
        raise click.exceptions.Exit(1)
