"""``tulu-eval list``: what there is to choose from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

import tulu_eval
from tulu_eval.cli.common import print_json, print_text, say, then

if TYPE_CHECKING:
    from tulu_eval.api.list_known import Kind

NEXT = {
    "runs": ("verify", "RUN"),
    "benchmarks": ("run", "BENCHMARK", "--model", "MODEL", "--dry-run"),
    "protocols": ("run", "BENCHMARK", "--protocol", "PROTOCOL", "--model", "MODEL", "--dry-run"),
    "recipes": ("train", "STAGE", "--recipe", "RECIPE", "--dry-run"),
    "suites": ("run", "SUITE", "--model", "MODEL", "--dry-run"),
}
"""What is likely done with a name of a list."""


@click.command("list", no_args_is_help=True, short_help="List runs, benchmarks, protocols, recipes or suites.")
@click.argument("kind", type=click.Choice(list(NEXT)))
@click.option("--results", type=click.Path(path_type=Path), default=Path("results"), show_default=True,
              help="Folder under which runs are looked for.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print as JSON on stdout.")
def list_known(kind: Kind, results: Path, as_json: bool) -> None:
    r"""List what there is: runs of a folder, benchmarks, their protocols, recipes of 'train', suites.

    Those of other packages are listed too. Models are listed by 'tulu-eval models'.

    \b
    Examples:
      tulu-eval list runs
      tulu-eval list protocols
      tulu-eval list recipes --json
    """
    from tulu_eval.reports.layout import grid

    found = tulu_eval.list_known(kind, results=results)
    for problem in found.problems:
        say(f"tulu-eval: left out: {problem}")
    if as_json:
        print_json([dict(zip(found.columns, row, strict=True)) for row in found.rows])
        return
    print_text(grid(found.columns, found.rows, keep=(0,)) if found.rows else f"no {kind}")
    if found.rows:
        then(*NEXT[kind])
