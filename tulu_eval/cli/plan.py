"""``tulu-eval plan``: what a comparison of two models, or a suite for many models, needs before it is paid for."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

import tulu_eval
from tulu_eval.cli import plan_models
from tulu_eval.cli.common import print_json, print_text, registry_option, then, then_same
from tulu_eval.cli.names import check_models, complete, complete_models
from tulu_eval.cli.numeric import NUMBER, WHOLE

_MODELS = ("--models", "-m")


class _Command(click.Command):
    """Takes ``--models A B`` as two values of the option; click has no option with one value or two."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parses, with the option's name put before its second value, too, unless that is the benchmark or suite."""
        from tulu_eval import plugins

        spread, known = [], False
        for place, word in enumerate(args):
            second = (place > 1 and args[place - 2] in _MODELS) or (place and args[place - 1].startswith("--models="))
            if second and not word.startswith("-"):
                known = known or word in plugins.names(plugins.SUITES) or word in plugins.names(plugins.BENCHMARKS)
                spread.append(_MODELS[0])
            spread.append(word)
        try:
            return super().parse_args(ctx, spread)
        except click.MissingParameter:
            if not known:
                raise
            ctx.params.clear()
            return super().parse_args(ctx, list(args))


@click.command(cls=_Command, no_args_is_help=True)
@click.argument("benchmark", metavar="BENCHMARK|SUITE", shell_complete=complete("tulu_eval.benchmarks", "tulu_eval.suites"))
@click.option("--models", "-m", required=True, multiple=True, metavar="A B|FILE", shell_complete=complete_models,
              help="The two models: hub ids, folders, GGUF files, or names of the registry. For a suite: a file with one model "
                   "per line.")  # fmt: skip
@click.option("--detect", "-d", type=NUMBER, metavar="POINTS",
              help="Difference that the comparison has to show, in percent points.")  # fmt: skip
@click.option(
    "--data", type=click.Path(path_type=Path), help="File of rows to count tokens in instead of the benchmark's own source."
)
@click.option("--gpus", type=WHOLE, help="For a suite: number of H200 GPUs, in nodes of 8.")
@click.option("--gpu-hour-price", type=NUMBER, metavar="PRICE", help="For a suite: price of one GPU for one hour.")
@registry_option
@click.option("--json", "as_json", is_flag=True, help="Print as JSON on stdout.")
def plan(
    benchmark: str,
    models: tuple[str, ...],
    detect: float | None,
    data: Path | None,
    gpus: int | None,
    gpu_hour_price: float | None,
    registry: Path | None,
    as_json: bool,
) -> None:
    r"""Say what a comparison of two models, or a suite for many models, needs.

    Prints how many items of BENCHMARK show a difference, whether BENCHMARK has that many, and what the two runs cost.

    "Show" means 80 % power at 5 %, two-sided, of the very test that will be run: McNemar's of 'compare' for both models on the
    same items, of which 20 to 30 % are right in one model only, and Fisher's of 'verify' for each on items of its own. With
    that many items or more, power stays at 80 %. Tokens, seconds and memory are for this machine. The size of a model that is
    not here comes from the registry. No weights are loaded.

    Of a SUITE it prints the GPU-hours of each model and column, which GPUs each model gets when, so that the most verdicts of
    'verify' come early, and the price; with every assumption and its source.

    \b
    Examples:
      tulu-eval plan gsm8k --models tulu-2-13b tulu-v2.5-dpo-13b-uf-mean --detect 2.0
      tulu-eval plan gsm8k -m ./checkpoint-100 ./checkpoint-200 -d 5 --data test.jsonl
      tulu-eval plan tulu-2.5 --models models.txt --gpus 64 --gpu-hour-price 3
    """
    from tulu_eval import plugins

    plugins.check("benchmark", [benchmark], plugins.BENCHMARKS, plugins.SUITES)
    if benchmark in plugins.names(plugins.SUITES):
        if detect is not None or data is not None:
            raise _usage(f"--{'detect' if detect is not None else 'data'} goes with a benchmark, and {benchmark} is a suite")
        if len(models) != 1:
            raise _usage(f"Option '--models' requires one file: plan {benchmark} --models FILE --gpus N.")
        if gpus is None:
            raise _usage("Missing option '--gpus'.")
        plan_models.plan_suite(benchmark, Path(models[0]), gpus, gpu_hour_price, registry, as_json)
        return
    if gpus is not None or gpu_hour_price is not None:
        raise _usage(f"--{'gpus' if gpus is not None else 'gpu-hour-price'} goes with a suite, such as tulu-2.5")
    if len(models) != 2:
        raise _usage("Option '--models' requires 2 arguments: plan BENCHMARK -m A B -d POINTS.")
    if detect is None:
        raise _usage("Missing option '--detect' / '-d'.")
    check_models(models, registry)
    from tulu_eval.reports import plan as report

    found = tulu_eval.items_needed(benchmark, models, detect, data=data, registry=registry)
    if as_json:
        print_json(dataclasses.asdict(found))
    else:
        print_text(report.as_text(found))
        enough = next((reach.protocol for reach in found.reaches if reach.enough == "yes"), None)
        if enough is not None:
            more = ("--data", data) if data else ()
            then("run", benchmark, "-m", models[0], "-m", models[1], "--protocol", enough, *more)
        else:
            then_same("with a larger --detect POINTS")


def _usage(text: str) -> click.UsageError:
    return click.UsageError(text, click.get_current_context())
