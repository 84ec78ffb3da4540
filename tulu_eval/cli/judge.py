"""``tulu-eval judge``: what a judge says of a model's outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tulu_eval.cli import asking
from tulu_eval.cli.common import print_json, print_text, say
from tulu_eval.cli.numeric import WHOLE
from tulu_eval.errors import UserError


@click.command(no_args_is_help=True)
@click.argument("target", metavar="RUN_OR_OUTPUTS", type=click.Path(path_type=Path))
@asking.judge_options
@asking.scoring_options
@click.option("--data", type=click.Path(path_type=Path),
              help="Copy of alpaca_eval_gpt4_baseline.json; the hub's pinned one unless given.")  # fmt: skip
@click.option("--limit", type=WHOLE, help="Only the first so many instructions.")
@click.option("--output", "-o", type=click.Path(path_type=Path),
              help="Folder to write; beside the run, or under results/, unless given.")  # fmt: skip
def judge(target: Path, **options: Any) -> None:
    r"""Judge a model's AlpacaEval outputs.

    RUN_OR_OUTPUTS is a run folder of alpaca-eval, or a file in the form of alpaca_eval's model_outputs.json. A judge compares
    each output with the baseline's.

    Every answer is kept as it comes: the same command again asks only what failed, and pays for nothing twice. All 805 are
    accounted for, as judged, failed or identical; where the judge failed, the exit code is 1. The judge behind the published
    numbers is served no more, so any other's number stands in a column of its own.

    \b
    Examples:
      tulu-eval judge results/my-checkpoint/alpaca-eval/published-1a2b3c4d --judge gpt-4.1 --dry-run
      tulu-eval judge model_outputs.json --judge gpt-4.1 --max-cost 8
      tulu-eval judge RUN --judge llama-3-70b --judge-url http://127.0.0.1:8000/v1 --yes
      tulu-eval judge RUN --judge-vllm meta-llama/Meta-Llama-3-8B-Instruct
    """
    from tulu_eval.judging.cache import Cache
    from tulu_eval.judging.recipe import preview
    from tulu_eval.judging.record import read_calibration
    from tulu_eval.judging.session import prepare
    from tulu_eval.reports import judged as report
    from tulu_eval.runs import judged

    recipe, local = asking.recipe_of(options["judge_name"], options["judge_vllm"], options["judge_url"], options["method"])
    price = asking.price_of(recipe, options["price"], options["prices"], local)
    if options["max_cost"] is not None and price is None:
        raise UserError(f"--max-cost needs a price, and the table has none for {recipe.judge}: give --price IN,OUT")
    scoring = asking.scoring_of(options["gamed"], options["folds"], options["partial"], options["c"])
    calibration = read_calibration(options["calibration"]) if options["calibration"] else None
    found = judged.find(target, options["partial"])
    folder = options["output"] or judged.folder_of(found, recipe, options["limit"])
    dry, quiet = options["dry_run"], options["quiet"]
    with Cache(options["cache"] or judged.cache_of(recipe), read_only=dry) as cache:
        ready = prepare(found.outputs, recipe, cache, options["data"], price, options["limit"], scoring)
        if dry:
            print_text("\n\n".join([str(ready.estimate), *ready.screen.flags, *preview(ready.pairs, recipe)]))
            return
        asking.consent(ready.estimate, yes=options["yes"], max_cost=options["max_cost"], quiet=quiet)
        where = options["judge_url"], local, options["concurrency"], options["timeout"]
        with asking.endpoint_of(recipe, *where, needed=ready.estimate.requests > 0) as (endpoint, address):
            progress = asking.Answers(ready.estimate.requests, quiet=quiet)
            outcome = judged.judge(ready, endpoint, address, cache, folder, options["max_cost"], calibration, progress)
    for line in report.failures(outcome, quiet=quiet):
        say(f"tulu-eval: {line}")
    if options["as_json"]:
        print_json({"folder": str(folder), **report.as_json(outcome.score, outcome.results, ready.screen.flags)})
    else:
        print_text(report.as_text(outcome.score, outcome.results, ready.screen.flags))
        if not quiet:
            say("", report.spent(outcome.judging.spent), str(folder))
    if outcome.score.errors:
        raise click.exceptions.Exit(1)
