"""``tulu-eval table``: the card's table, published beside measured."""

from __future__ import annotations

from pathlib import Path

import click

from tulu_eval.cli.common import print_text, progress, registry_option, say


@click.command()
@click.option("--results", type=click.Path(path_type=Path), default=Path("results"), show_default=True,
              help="Folder under which run folders are looked for.")  # fmt: skip
@click.option("--format", "form", default="plain", show_default=True,
              type=click.Choice(["plain", "markdown", "latex", "csv", "json"]), help="What is printed.")  # fmt: skip
@click.option("--write", type=click.Path(path_type=Path), help="Also write to this file: .md, .tex, .csv, .json or .txt.")
@registry_option
def table(results: Path, form: str, write: Path | None, registry: Path | None) -> None:
    r"""Print the card's table, published and measured.

    What was measured stands beside what the suite's model card prints. Every row of the card is there, measured or not; other
    measured models follow. Of several runs of a model the one with most published items is shown, the newest of equals. Run
    folders that cannot be used are named on stderr.

    \b
    Examples:
      tulu-eval table
      tulu-eval table --results results --write results/table.md
      tulu-eval table --format latex > table.tex
    """
    from tulu_eval.errors import UserError, suggest
    from tulu_eval.registry import load_suite
    from tulu_eval.reports import table as report
    from tulu_eval.runs.collect import collect
    from tulu_eval.runs.manifest import write_text

    if write is not None and write.suffix not in report.SUFFIXES:
        raise UserError(f"--write {write}: the format follows from the name's end.{suggest(write.suffix, report.SUFFIXES)}")
    suite = load_suite(registry)
    if not results.is_dir():
        say(f"tulu-eval: no folder {results}, so nothing was measured")
    found = collect(suite, results, progress())
    for problem in found.problems:
        say(f"tulu-eval: not in the table: {problem}")
    print_text(report.write(found, suite, form), end=False)
    if write is not None:
        write_text(write, report.write(found, suite, report.SUFFIXES[write.suffix]))
