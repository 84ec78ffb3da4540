"""``tulu-eval reproduce``: from data to a verified row of a table, end to end."""

from __future__ import annotations

from pathlib import Path

import click

import tulu_eval
from tulu_eval.cli import common
from tulu_eval.cli.common import print_json, print_text, set_up_logging


@click.command(no_args_is_help=True, short_help="Train and evaluate a small model end to end: pairs to a verified row.")
@click.option("--recipe", "-r", required=True, type=click.Choice(["tiny"]), help="What is trained: 0.7 million parameters.")
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Folder; training/reproduce-<recipe> unless given.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON on stdout.")
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
def reproduce(recipe: str, output: Path | None, as_json: bool, quiet: bool) -> None:
    r"""Make pairs, train an SFT start, a reward model and a PPO policy, evaluate before and after, verify.

    Everything is generated and trained here, on a CPU, in minutes; no download but the package reasoning-gym. The verdict says
    whether the numbers are those that the authors' own run came to. A run that was killed goes on where it stopped.

    \b
    Examples:
      tulu-eval reproduce --recipe tiny
      tulu-eval reproduce --recipe tiny --output /tmp/tiny --json > tiny.json
    """
    set_up_logging(0, quiet)
    from tulu_eval.reports import reproduce as reproduce_report

    def say(text: str) -> None:
        if not quiet:
            common.say(*text.split("\n"))

    found = tulu_eval.reproduce(recipe, output=output, progress=False if quiet else say)
    if as_json:
        print_json(reproduce_report.as_json(found.summary))
    else:
        print_text(reproduce_report.as_text(found.summary))
        say(f"\n{found.folder}")
