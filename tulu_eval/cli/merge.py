"""``tulu-eval merge``: put the shards of a run together."""

from __future__ import annotations

from pathlib import Path

import click

import tulu_eval
from tulu_eval.cli.common import end_with_failures, print_json, print_text, say, then_verify
from tulu_eval.cli.names import RUN
from tulu_eval.errors import counted


@click.command(no_args_is_help=True, short_help="Put the shards of a run together.")
@click.argument("folders", metavar="FOLDER...", nargs=-1, required=True, type=RUN)
@click.option("--output", "-o", type=click.Path(path_type=Path), metavar="FOLDER",
              help="The run's folder to write; the folder around the shards unless given.")  # fmt: skip
@click.option("--data", type=click.Path(path_type=Path), help="alpaca-eval: the data file, for a run that read one.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
def merge(folders: tuple[Path, ...], output: Path | None, data: Path | None, as_json: bool) -> None:
    r"""Put the shards of 'tulu-eval run ... --shard I/N' together. The result is the run that one process would have made.

    FOLDER is the run's folder, or the folders of its shards, wherever they were copied to. Shards are only read. Nothing is
    written unless all shards are there, are finished and have the same settings.

    \b
    Examples:
      tulu-eval merge results/my-checkpoint/gsm8k/full-1a2b3c4d
      tulu-eval merge node1/1-of-2 node2/2-of-2 -o results/my-checkpoint/gsm8k/full-1a2b3c4d
    """
    from tulu_eval.reports import run

    merged = tulu_eval.merge(folders, output=output, data=data)
    if as_json:
        print_json(run.as_json(merged.folder, merged.results, merged.tally))
    else:
        print_text(run.of_run(merged.results, merged.tally))
        say("", f"{counted(merged.shards, 'shard')}, {counted(merged.added, 'sample')} added", str(merged.folder))
        then_verify(merged.folder)
    end_with_failures([merged], "the commands of their shards try them again")
