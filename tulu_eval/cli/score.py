"""``tulu-eval score``: grade an existing ledger again."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from tulu_eval.cli.common import print_json


@click.command(no_args_is_help=True, short_help="Grade the samples of a run again.")
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
def score(folder: Path, as_json: bool) -> None:
    r"""Grade the samples of RUN (a run folder) again, without loading a model.

    \b
    Example:
      tulu-eval score results/smollm2-135m-instruct/gsm8k/published-1a2b3c4d
    """
    from tulu_eval.reports import rows
    from tulu_eval.runs.scoring import score as score_run

    scored = score_run(folder)
    if as_json:
        print_json({"folder": str(folder), **dataclasses.asdict(scored)})
    else:
        click.echo(rows.of_run(scored.results))
        click.echo(rows.of_disagreements(scored))
