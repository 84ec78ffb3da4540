"""``tulu-eval score``: grade an existing ledger again, or score judgments that are there; no model, no judge."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tulu_eval.cli import asking
from tulu_eval.cli.common import print_json, print_text, say
from tulu_eval.errors import UserError

if TYPE_CHECKING:
    from tulu_eval.judging.calibrate import Calibration
    from tulu_eval.judging.score import Score
    from tulu_eval.records import Result

JUDGED = "alpaca-eval"
"""The benchmark whose numbers are made of judgments."""

OF_JUDGMENTS = ("annotations", "outputs", "output", "gamed", "partial", "positional", "calibration", "c")
"""Options that mean something for judgments only."""


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
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
def score(target: Path, as_json: bool, **options: Any) -> None:
    r"""Score again what is there, without a model and without a judge.

    RUN is a run folder, whose samples are graded again, or a folder that 'tulu-eval judge' wrote, whose judgments are. The word
    alpaca-eval takes judgments from a file: raw and length-controlled win rate, offline, rows placed by their instruction and
    not by their number. Rows without a preference (null) are an error unless --partial counts them as failed.

    \b
    Examples:
      tulu-eval score results/smollm2-135m-instruct/gsm8k/published-1a2b3c4d
      tulu-eval score alpaca-eval --outputs model_outputs.json --annotations annotations.json --gamed df_gamed.csv
      tulu-eval score results/my-checkpoint/alpaca-eval/published-1a2b3c4d/judged/gpt-4.1-logprobs
    """
    from tulu_eval.runs.judged_check import JUDGING

    if options["annotations"] or (str(target) == JUDGED and not target.is_dir()):
        _judgments_of_a_file(target, options, as_json)
    elif (target / JUDGING).exists():
        _judgments_of_a_judge(target, options, as_json)
    else:
        _samples(target, options, as_json)


def _samples(folder: Path, options: dict[str, Any], as_json: bool) -> None:
    from tulu_eval.reports import rows
    from tulu_eval.runs.score import score as score_run

    odd = [name for name in OF_JUDGMENTS if options[name]]
    if odd and folder.is_dir():
        raise UserError(f"--{odd[0]} is for judgments, and {folder} has samples, not judgments")
    scored = score_run(folder)
    if as_json:
        found = {"scorers": scored.scorers, "disagreements": [dataclasses.asdict(one) for one in scored.disagreements]}
        print_json({**rows.as_json(folder, scored.results, scored.tally), **found})
    else:
        print_text(rows.of_run(scored.results, scored.tally))
        print_text(rows.of_disagreements(scored))


def _judgments_of_a_judge(folder: Path, options: dict[str, Any], as_json: bool) -> None:
    from tulu_eval.runs import judged

    odd = [name for name in ("outputs", "output", "positional") if options[name]]
    if odd:
        raise UserError(f"--{odd[0]} is for a file of annotations, not for a judge's folder")
    found = judged.score_again(folder, asking.scoring_of(options["gamed"], options["folds"], options["partial"], options["c"]))
    _show(found, _rows(found, _calibration(options)), judged.flags_of(folder), as_json)


def _judgments_of_a_file(target: Path, options: dict[str, Any], as_json: bool) -> None:
    from tulu_eval.judging.session import score_files
    from tulu_eval.runs import judged, rescored

    if str(target) != JUDGED:
        raise UserError(f"--annotations goes with {JUDGED}: tulu-eval score {JUDGED} --annotations {options['annotations']}")
    if not options["annotations"]:
        raise UserError(f"score {JUDGED} needs --annotations FILE; samples of a run are graded by the run's folder")
    scoring = asking.scoring_of(options["gamed"], options["folds"], options["partial"], options["c"])
    outputs = judged.find(options["outputs"], scoring.partial).outputs if options["outputs"] else None
    found = score_files(options["annotations"], outputs, scoring, options["positional"])
    calibration = _calibration(options)
    rows = _rows(found.score, calibration)
    folder = rescored.keep(options["output"], options["annotations"], found, rows, calibration) if options["output"] else None
    _show(found.score, rows, found.flags, as_json)
    if folder:
        say("", str(folder))


def _calibration(options: dict[str, Any]) -> Calibration | None:
    from tulu_eval.judging.record import read_calibration

    return read_calibration(options["calibration"]) if options["calibration"] else None


def _rows(found: Score, calibration: Calibration | None) -> tuple[Result, ...]:
    from tulu_eval.judging.numbers import results
    from tulu_eval.runs.judged import with_calibration

    return with_calibration(found, results(found), calibration)


def _show(found: Score, rows: tuple[Result, ...], flags: list[str], as_json: bool) -> None:
    from tulu_eval.reports import judged as report

    if as_json:
        print_json(report.as_json(found, rows, flags))
    else:
        print_text(report.as_text(found, rows, flags))
