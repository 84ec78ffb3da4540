"""``tulu-eval compare``: two runs item by item."""

from __future__ import annotations

from pathlib import Path

import click

import tulu_eval
from tulu_eval.cli.common import print_json, print_text, then
from tulu_eval.cli.names import RUN


@click.command(no_args_is_help=True)
@click.argument("run_a", type=RUN)
@click.argument("run_b", type=RUN)
@click.option("--scorer", metavar="NAME", help="Compare by this scorer; the first that both runs have unless given.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON on stdout.")
def compare(run_a: Path, run_b: Path, scorer: str | None, as_json: bool) -> None:
    r"""Compare two runs item by item.

    On the items that both runs have: the exact McNemar test and the difference with its interval, every item that one run has
    right and the other wrong with both answers, where the texts part and why, and every setting that differs.

    \b
    Examples:
      tulu-eval compare results/a/gsm8k/card-200-1a2b3c4d results/b/gsm8k/card-200-5e6f7a8b
      tulu-eval compare RUN_A RUN_B --scorer with-punctuation
      tulu-eval compare RUN_A RUN_B --json | jq '.flips[] | select(.cause == "extraction")'
    """
    from tulu_eval.reports import compare as compare_report

    found = tulu_eval.compare(run_a, run_b, scorer=scorer)
    if as_json:
        print_json(compare_report.as_json(found))
    else:
        print_text(compare_report.as_text(found))
        then("explain", run_a, run_b, "--max-items", 0)
