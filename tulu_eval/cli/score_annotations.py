"""``tulu-eval score-annotations``: win rates from judgments that are there, offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tulu_eval.cli import asking
from tulu_eval.cli.common import print_json
from tulu_eval.errors import UserError


@click.command(no_args_is_help=True)
@click.argument("annotations", type=click.Path(path_type=Path))
@click.option("--outputs", type=click.Path(path_type=Path),
              help="The model's model_outputs.json or run folder, checked to be what was judged.")  # fmt: skip
@asking.scoring_options
@click.option("--positional", is_flag=True, help="Difficulties by row number, as alpaca_eval takes them: only for parity with "
              "numbers published so, and wrong where rows are missing.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print as JSON on stdout.")
def score_annotations(annotations: Path, as_json: bool, **options: Any) -> None:
    r"""Score AlpacaEval 2 judgments offline.

    Raw and length-controlled win rate of ANNOTATIONS: anyone's annotations.json in alpaca_eval's format, or a folder that
    'tulu-eval judge' wrote, which needs no text. Rows are placed by their instruction, not by their number.

    \b
    Examples:
      tulu-eval score-annotations annotations.json --outputs model_outputs.json --gamed df_gamed.csv
      tulu-eval score-annotations results/my-checkpoint/alpaca-eval/published-1a2b3c4d/judged/gpt-4.1-logprobs
    """
    from tulu_eval.judging.record import read_calibration
    from tulu_eval.judging.score import results
    from tulu_eval.judging.session import score_files
    from tulu_eval.reports import judged as report
    from tulu_eval.runs import judged

    scoring = asking.scoring_of(options["gamed"], options["folds"], options["partial"])
    if annotations.is_dir():
        if options["outputs"] or options["positional"]:
            raise UserError("--outputs and --positional are for a file of annotations, not for a judge's folder")
        found, flags = judged.score_again(annotations, scoring), list[str]()
    else:
        outputs = judged.find(options["outputs"], scoring.partial).outputs if options["outputs"] else None
        found, screen = score_files(annotations, outputs, scoring, options["positional"])
        flags = screen.flags
    calibration = read_calibration(options["calibration"]) if options["calibration"] else None
    rows = judged.with_calibration(found, results(found), calibration)
    if as_json:
        print_json(report.as_json(found, rows, flags))
    else:
        click.echo(report.as_text(found, rows, flags))
