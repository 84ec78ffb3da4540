"""``tulu-eval plan``: what a comparison of two models needs, before it is paid for."""

from __future__ import annotations

from pathlib import Path

import click

import tulu_eval
from tulu_eval.cli.common import complete, complete_models, print_json, print_text, registry_option, then
from tulu_eval.cli.numeric import NUMBER


def _two_names(context: click.Context, _parameter: click.Parameter, value: tuple[str, str]) -> tuple[str, str]:
    """Returns the two models.

    Raises:
        UsageError: If a name begins with a dash: click takes an option for the second model if that is missing.
    """
    if any(name.startswith("-") for name in value):
        raise click.UsageError("Option '--models' requires 2 arguments: plan BENCHMARK -m A B -d POINTS.", context)
    return value


@click.command(no_args_is_help=True)
@click.argument("benchmark", shell_complete=complete("tulu_eval.benchmarks"))
@click.option("--models", "-m", required=True, nargs=2, metavar="A B", is_eager=True, callback=_two_names,
              shell_complete=complete_models,
              help="The two models: hub ids, folders, GGUF files, or names of the registry.")  # fmt: skip
@click.option("--detect", "-d", required=True, type=NUMBER, metavar="POINTS",
              help="Difference that the comparison has to show, in percent points.")  # fmt: skip
@click.option(
    "--data", type=click.Path(path_type=Path), help="File of rows to count tokens in instead of the benchmark's own source."
)
@registry_option
@click.option("--json", "as_json", is_flag=True, help="Print as JSON on stdout.")
def plan(
    benchmark: str, models: tuple[str, str], detect: float, data: Path | None, registry: Path | None, as_json: bool
) -> None:
    r"""Say what a comparison of two models needs.

    Prints how many items of BENCHMARK show a difference, whether BENCHMARK has that many, and what the two runs cost.

    "Show" means 80 % power at 5 %, two-sided, of the very test that will be run: McNemar's of 'compare' for both models on the
    same items, of which 20 to 30 % are right in one model only, and Fisher's of 'verify' for each on items of its own. With
    that many items or more, power stays at 80 %. Tokens, seconds and memory are for this machine. The size of a model that is
    not here comes from the registry. No weights are loaded.

    \b
    Examples:
      tulu-eval plan gsm8k --models tulu-2-13b tulu-v2.5-dpo-13b-uf-mean --detect 2.0
      tulu-eval plan gsm8k -m ./checkpoint-100 ./checkpoint-200 -d 5 --data test.jsonl
    """
    import dataclasses

    from tulu_eval.reports import plan as report

    found = tulu_eval.items_needed(benchmark, models, detect, data=data, registry=registry)
    if as_json:
        print_json(dataclasses.asdict(found))
    else:
        print_text(report.as_text(found))
        if any(reach.enough == "yes" for reach in found.reaches):
            then("run", benchmark, "-m", models[0], "-m", models[1], *(("--data", data) if data else ()))
