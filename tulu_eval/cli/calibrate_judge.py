"""``tulu-eval calibrate-judge``: how far another judge can stand in for the original."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from tulu_eval.cli import asking
from tulu_eval.cli.common import print_json, print_text, say
from tulu_eval.cli.numeric import WHOLE


@click.command(no_args_is_help=True)
@click.argument("annotations", nargs=-1, required=True, type=click.Path(path_type=Path))
@asking.judge_options
@click.option("--size", type=WHOLE, default=400, show_default=True,
              help="Pairs to judge, drawn by length difference and by the original's preference.")  # fmt: skip
@click.option("--output", "-o", required=True, type=click.Path(path_type=Path),
              help="File to write; --calibration of judge and score reads it.")  # fmt: skip
def calibrate_judge(annotations: tuple[Path, ...], output: Path, size: int, **options: Any) -> None:
    r"""Measure a replacement judge against the original.

    It judges pairs of ANNOTATIONS, published annotations.json files of gpt-4-1106-preview's verdicts, one a model. Reported are
    agreement, kappa, bias by length and by position, and the mapping of its win rates to the original's with the error that
    this adds. A win rate mapped so is an estimate with a name of its own, never the original's number.

    \b
    Examples:
      tulu-eval calibrate-judge alpaca-7b.json claude-2.json --judge gpt-4.1 -o gpt-4.1.json --dry-run
      tulu-eval judge RUN --judge gpt-4.1 --calibration gpt-4.1.json
    """
    from tulu_eval.judging.budget import Budget, estimate
    from tulu_eval.judging.cache import Cache
    from tulu_eval.judging.calibrate import describe, draw
    from tulu_eval.judging.judge import missing
    from tulu_eval.judging.recipe import preview
    from tulu_eval.judging.record import write_calibration
    from tulu_eval.judging.session import annotated, calibrate_judge
    from tulu_eval.reports import judged as report
    from tulu_eval.runs.judged import cache_of

    recipe, local = asking.recipe_of(options["judge_name"], options["judge_vllm"], options["judge_url"], options["method"])
    price = asking.price_of(recipe, options["price"], options["prices"], local)
    budget = Budget(price, options["max_cost"])
    sample = draw(annotated({str(path): path for path in annotations}), size)
    pairs = [one.annotation.pair for one in sample]
    dry, quiet = options["dry_run"], options["quiet"]
    with Cache(options["cache"] or cache_of(recipe), read_only=dry) as cache:
        before = estimate(missing(pairs, recipe, cache), price)
        if dry:
            print_text("\n\n".join([str(before), *preview(pairs, recipe)]))
            return
        asking.consent(before, yes=options["yes"], max_cost=options["max_cost"], quiet=quiet)
        where = options["judge_url"], local, options["concurrency"], options["timeout"]
        with asking.endpoint_of(recipe, *where, needed=before.requests > 0) as (endpoint, _):
            found, judging = calibrate_judge(
                sample, recipe, endpoint, cache, budget, asking.Answers(before.requests, quiet=quiet)
            )
    write_calibration(output, found)
    if options["as_json"]:
        print_json(dataclasses.asdict(found))
    else:
        print_text(describe(found))
    if not quiet:
        say("", report.spent(judging.spent), str(output))
