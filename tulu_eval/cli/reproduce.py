"""``tulu-eval reproduce``: from data to a verified row of a table, end to end."""

from __future__ import annotations

from pathlib import Path

import click

import tulu_eval
from tulu_eval.cli import common
from tulu_eval.cli.common import FOR_REAL, print_json, print_text, set_up_logging, then, then_same
from tulu_eval.cli.numeric import WHOLE


@click.command(no_args_is_help=True, short_help="Train and evaluate a small model end to end: pairs to a verified row.")
@click.option("--recipe", "-r", required=True, type=click.Choice(["sums", "card-8b"]),
              help="What is trained: 0.1 million parameters on this CPU, or the card's checkpoint on GPU nodes.")  # fmt: skip
@click.option("--seed", type=WHOLE, help="Seed of data, initial weights and draws; unless given 0, for card-8b 42.")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), help="Folder; training/reproduce-<recipe>-<seed> unless given."
)
@click.option("--dry-run", is_flag=True,
              help="Print the plan: stages, steps, time, disk, what is there already; for GPUs memory, commands.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print as JSON on stdout.")
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
def reproduce(recipe: str, seed: int | None, output: Path | None, dry_run: bool, as_json: bool, quiet: bool) -> None:
    r"""Make pairs, train an SFT start, a reward model and PPO policies, evaluate before and after, verify, compare.

    Act 1: PPO by a reward model of preferences teaches the form of an answer, beside plain SFT on the chosen answers. Act 2:
    PPO by the benchmark's own scorer teaches right answers. Everything is generated and trained here, on a CPU, in minutes,
    without a download. The verdict says whether the numbers are those that the authors' own run of this seed came to. A run
    that was killed goes on where it stopped.

    The recipe card-8b is the whole way to allenai/llama-3-tulu-v2.5-8b-uf-mean-70b-uf-rm. It takes GPU nodes, so it is planned
    only: --dry-run prints the commands for each. Each stage gets the smallest number of GPUs that has room, or WORLD_SIZE of
    the environment, LOCAL_WORLD_SIZE of them in a node.

    \b
    Examples:
      tulu-eval reproduce --recipe sums
      tulu-eval reproduce --recipe sums --seed 1 --output /tmp/sums --json > sums.json
      WORLD_SIZE=64 tulu-eval reproduce --recipe card-8b --output /shared/card-8b --dry-run
    """
    set_up_logging(0, quiet)
    from tulu_eval.reports import reproduce as reproduce_report

    if dry_run:
        plan = tulu_eval.plan_reproduction(recipe, seed=seed, output=output)
        if as_json:
            print_json(reproduce_report.as_json(plan))
        else:
            print_text(reproduce_report.plan_as_text(plan))
            _after_plan(recipe, quiet)
        return

    def say(text: str) -> None:
        if not quiet:
            common.say(*text.split("\n"))

    found = tulu_eval.reproduce(recipe, seed=seed, output=output, progress=False if quiet else say)
    if as_json:
        print_json(reproduce_report.as_json(found.summary))
    else:
        print_text(reproduce_report.as_text(found.summary))
        say(f"\n{found.folder}")
        then("report", "--results", found.folder / "results", "--training", found.folder, quiet=quiet)


def _after_plan(recipe: str, quiet: bool) -> None:
    """Names the next step after a plan; the plan of the recipe for GPU nodes prints its own commands."""
    if recipe == "sums":
        then_same(FOR_REAL, quiet=quiet)
    elif not quiet:
        common.say("next: the first of the commands above")
