"""``tulu-eval explain``: which setting explains the gap between two numbers?"""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

import click

import tulu_eval
from tulu_eval.cli.common import FOR_REAL, print_json, print_text, registry_option, set_up_logging, then, then_same
from tulu_eval.cli.engine_options import EngineOptions, engine_options, settings_of
from tulu_eval.cli.names import RUN, complete, complete_models, complete_protocols
from tulu_eval.cli.numeric import NUMBER, WHOLE


@click.command(no_args_is_help=True, short_help="Say which setting explains the gap between two numbers.")
@click.argument("folder", metavar="[RUN]", required=False, type=RUN)
@click.argument("other", metavar="[OTHER]", required=False, type=RUN)
@click.option("--as", "stand_in", metavar="NAME", shell_complete=complete_models,
              help="Agree with the published number of this model, for a run of a local checkpoint.")  # fmt: skip
@click.option("--number", metavar="X", help="Agree with this number, in percent with its digits as printed, e.g. 40.0; beside "
              "OTHER, the number that was told of its texts.")  # fmt: skip
@click.option("--n", "size", type=WHOLE, help="Number of items that --number is of.")
@click.option("--model", "-m", shell_complete=complete_models,
              help="Where the model is: of a run of a local folder or file, or of a recipe without a run.")  # fmt: skip
@click.option("--benchmark", shell_complete=complete("tulu_eval.benchmarks"), help="Benchmark of a recipe without a run.")
@click.option(
    "--protocol",
    shell_complete=complete_protocols,
    help="The recipe; unless given, the one with as many items as the other side.",
)
@click.option("--data", type=click.Path(path_type=Path), help="The benchmark's data file; the run's own unless given.")
@click.option("--scorer", help="Scorer whose number is meant; the published one unless given.")
@click.option("--max-items", type=WHOLE, help="Samples that may be generated; 0 for what is free alone. Unless given, a "
              "quarter of trying everything on all items.")  # fmt: skip
@click.option("--max-seconds", type=NUMBER, help="Seconds after which nothing more is begun.")
@click.option("--max-cost", type=NUMBER, metavar="DOLLARS", help="Stop before a server would cost more than this.")
@click.option("--price", metavar="IN,OUT", help="Dollars per million tokens at the server, instead of the table's.")
@engine_options
@click.option("--results", type=click.Path(path_type=Path),
              help="Folder of results, for a recipe without a run; results unless given.")  # fmt: skip
@registry_option
@click.option("--dry-run", is_flag=True, help="List what can be tried, with its cost; generate nothing.")
@click.option("--output", "-o", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Also write a page with the way from one number to the other.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print as JSON on stdout.")
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
def explain(
    folder: Path | None,
    other: Path | None,
    stand_in: str | None,
    number: str | None,
    size: int | None,
    model: str | None,
    benchmark: str | None,
    protocol: str | None,
    data: Path | None,
    scorer: str | None,
    max_items: int | None,
    max_seconds: float | None,
    max_cost: float | None,
    price: str | None,
    backend: str,
    results: Path | None,
    registry: Path | None,
    dry_run: bool,
    output: Path | None,
    as_json: bool,
    quiet: bool,
    **engine: Unpack[EngineOptions],
) -> None:
    r"""Say which setting, changed in a recipe, gives the other number: template, examples, limit, stops, scorer, items, engine.

    RUN is compared with OTHER, with --number and --n, or with what was published. A run of ours is the base, whose settings are
    changed one by one; without one, the recipe of --protocol with --model. Of an imported run only the texts count, not what
    its file says of its settings; for changes that need new answers it needs --model. Give OTHER and the number that was told
    of it, if you have both: the texts show what was asked, and the number how they were scored.

    First comes what samples that are there can tell, then what has to be generated, on as few items as tell enough. Nothing is
    generated twice, and 'run' finds all of it.

    \b
    Four verdicts:
      explains it   moves the number by more than chance, and leaves no more than
                    chance or a quarter of the gap
      contributes   moves the number towards the other by more than chance, and
                    brings the texts nearer; never said of a bare number
      ruled out     moves it by less than half of the gap, or gives other answers
                    than the other side has
      cannot tell   not with the items that the budget allowed, or another setting
                    fits as well

    \b
    Examples:
      tulu-eval explain results/smollm2-135m-instruct/gsm8k/card-200-1a2b3c4d --number 4.5 --n 200 --data test.jsonl
      tulu-eval explain results/mine/gsm8k/full-1a2b3c4d results/mine/gsm8k/imported-lm-eval-5e6f7a8b --max-items 0
      tulu-eval explain results/mine/gsm8k/full-1a2b3c4d results/mine/gsm8k/imported-lm-eval-5e6f7a8b --number 33.4 --n 1319
      tulu-eval explain results/mine/gsm8k/imported-lm-eval-5e6f7a8b -m ./mine --data test.jsonl
      tulu-eval explain --number 40.0 --n 1319 -m org/name --benchmark gsm8k --dry-run
    """
    set_up_logging(0, quiet)
    from tulu_eval.reports import explain as report
    from tulu_eval.runs.progress import Progress

    found = tulu_eval.explain(
        folder, other, against=stand_in, number=number, n=size, model=model, benchmark=benchmark, protocol=protocol, data=data,
        scorer=scorer, max_items=max_items, max_seconds=max_seconds, max_cost=max_cost, price=price, backend=backend,
        settings=settings_of(**engine), results=results, registry=registry, dry_run=dry_run, progress=Progress(quiet=quiet),
    )  # fmt: skip
    if output is not None:
        from tulu_eval import files
        from tulu_eval.reports import explain_page

        files.write_text(output, explain_page.as_html(found))
    if as_json:
        print_json(report.as_json(found))
    else:
        print_text(report.as_text(found))
        if dry_run:
            then_same(FOR_REAL, quiet=quiet)
        elif output is None:
            then_same("with --output FILE, for a page of it", quiet=quiet)
        else:
            then("list", "runs", quiet=quiet)
