"""``tulu-eval score``: grade an existing ledger again, or score judgments that are there; no model, no judge."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import click

import tulu_eval
from tulu_eval.cli import asking
from tulu_eval.cli.common import execution_options, print_json, print_text, say, then, then_same, then_verify
from tulu_eval.errors import UserError

if TYPE_CHECKING:
    from tulu_eval.api.score import WinRates
    from tulu_eval.cli.asking import ScoringOptions

JUDGED = "alpaca-eval"
"""The benchmark whose numbers are made of judgments."""

OF_JUDGMENTS = ("annotations", "outputs", "output", "gamed", "partial", "positional", "calibration", "c")
"""Options that mean something for judgments only."""

OF_FILES = ("outputs", "output", "positional")
"""Options that mean something for a file of annotations only."""


@click.command(no_args_is_help=True, short_help="Grade a run's samples again, or score AlpacaEval judgments.")
@click.argument("target", metavar="RUN|alpaca-eval", type=click.Path(path_type=Path))
@click.option("--annotations", type=click.Path(path_type=Path), metavar="FILE",
              help="With alpaca-eval: anyone's annotations.json in alpaca_eval's format.")  # fmt: skip
@click.option("--outputs", type=click.Path(path_type=Path), metavar="FILE",
              help="With --annotations: the model's model_outputs.json or run folder; must be what was judged.")  # fmt: skip
@click.option("--output", "-o", type=click.Path(path_type=Path), metavar="FOLDER",
              help="With --annotations: keep the number under this folder, where 'table' finds it; no text.")  # fmt: skip
@asking.scoring_options
@click.option("--positional", is_flag=True, help="Difficulties by row number, as alpaca_eval takes them: only for parity with "
              "numbers published so, and wrong where rows are missing.")  # fmt: skip
@execution_options
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
def score(
    target: Path,
    annotations: Path | None,
    outputs: Path | None,
    output: Path | None,
    positional: bool,
    unsafe_execution: bool,
    sandbox_image: str,
    as_json: bool,
    **scoring: Unpack[ScoringOptions],
) -> None:
    r"""Score again what is there, without a model and without a judge.

    RUN is a run folder, whose samples are graded again, or a folder that 'tulu-eval judge' wrote, whose judgments are. The word
    alpaca-eval takes judgments from a file: raw and length-controlled win rate, offline, rows placed by their instruction and
    not by their number. Rows without a preference (null) are an error unless --partial counts them as failed.

    \b
    Examples:
      tulu-eval score results/smollm2-135m-instruct/gsm8k/card-200-1a2b3c4d
      tulu-eval score alpaca-eval --outputs model_outputs.json --annotations annotations.json --gamed df_gamed.csv
      tulu-eval score results/my-checkpoint/alpaca-eval/alpacaeval2-805-1a2b3c4d/judged/gpt-4.1-logprobs
    """
    from tulu_eval.runs.judged_check import JUDGING

    given = {"annotations": annotations, "outputs": outputs, "output": output, "positional": positional}
    if annotations or (str(target) == JUDGED and not target.is_dir()):
        if str(target) != JUDGED:
            raise UserError(f"--annotations goes with {JUDGED}: tulu-eval score {JUDGED} --annotations {annotations}")
        if not annotations:
            raise UserError(f"score {JUDGED} needs --annotations FILE; samples of a run are graded by the run's folder")
        found = tulu_eval.score_annotations(annotations, outputs=outputs, output=output, positional=positional, **scoring)
        _show(found, as_json)
        if output is not None:
            then("table", "--results", output, quiet=as_json)
        else:
            then_same("with --outputs FILE --output results, which keeps the number for 'tulu-eval table'", quiet=as_json)
    elif (target / JUDGING).exists():
        _refuse(OF_FILES, given, "is for a file of annotations, not for a judge's folder")
        _show(tulu_eval.rescore_judgments(target, **scoring), as_json)
        then_verify(target.absolute().parent.parent, quiet=as_json)
    else:
        if target.is_dir():
            _refuse(OF_JUDGMENTS, given | scoring, f"is for judgments, and {target} has samples, not judgments")
        _samples(target, unsafe_execution, sandbox_image, as_json)


def _refuse(names: tuple[str, ...], given: Mapping[str, object], why: str) -> None:
    """Raises UserError if one of some options is given; the message names the first."""
    for name in names:
        if given[name]:
            raise UserError(f"--{name} {why}")


def _samples(folder: Path, unsafe_execution: bool, sandbox_image: str, as_json: bool) -> None:
    from tulu_eval.reports import run

    scored = tulu_eval.rescore(folder, unsafe_execution=unsafe_execution, sandbox_image=sandbox_image)
    if as_json:
        found = {"scorers": scored.scorers, "disagreements": [dataclasses.asdict(one) for one in scored.disagreements]}
        found["unhashed"] = scored.unhashed
        print_json({**run.as_json(folder, scored.results, scored.tally), **found})
    else:
        print_text(run.of_run(scored.results, scored.tally))
        print_text(run.of_disagreements(scored))
        if scored.unhashed:
            print_text(f"\nbeware: it {scored.unhashed}")
        then_verify(folder)


def _show(found: WinRates, as_json: bool) -> None:
    from tulu_eval.reports import judge as report

    if as_json:
        print_json(report.as_json(found.score, found.results, found.flags))
    else:
        print_text(report.as_text(found.score, found.results, found.flags))
    if found.folder:
        say("", str(found.folder))
