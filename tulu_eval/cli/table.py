"""``tulu-eval table``: the card's table, published beside measured."""

from __future__ import annotations

from pathlib import Path

import click

import tulu_eval
from tulu_eval.cli.common import on_terminal, print_text, registry_option, say, then


@click.command()
@click.option("--results", type=click.Path(path_type=Path), default=Path("results"), show_default=True,
              help="Folder under which run folders are looked for.")  # fmt: skip
@click.option("--suite", is_flag=True, help="All numbers of each measured model instead: the suite's columns and others.")
@click.option("--format", "form", default="plain", show_default=True, metavar="[plain|markdown|latex|csv]",
              type=click.Choice(["plain", "markdown", "latex", "csv", "json"]), help="What is printed.")  # fmt: skip
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), help="Also write to this file: .md, .tex, .csv, .json or .txt."
)
@registry_option
@click.option("--json", "form", flag_value="json", help="Print as JSON on stdout.")
def table(results: Path, suite: bool, form: str, output: Path | None, registry: Path | None) -> None:
    r"""Print the card's table, published and measured.

    What was measured stands beside what the suite's model card prints. Every row of the card is there, measured or not; other
    measured models follow. Of several runs of a model the one with most published items is shown, the newest of equals. Run
    folders that cannot be used are named on stderr.

    \b
    Examples:
      tulu-eval table
      tulu-eval table --results results --output results/table.md
      tulu-eval table --suite
      tulu-eval table --format latex > table.tex
    """
    found = tulu_eval.table(results, form, suite=suite, output=output, registry=registry, progress=on_terminal())
    if not results.is_dir():
        say(f"tulu-eval: no folder {results}, so nothing was measured")
    for problem in found.problems:
        say(f"tulu-eval: not in the table: {problem}")
    print_text(str(found), end=False, exact=form != "plain")
    if form == "plain" and results.is_dir():
        then("report", "--results", results)
    elif form == "plain":
        then("run", "BENCHMARK", "--model", "MODEL", "--dry-run")
