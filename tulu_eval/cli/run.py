"""``tulu-eval run``: evaluate a model on a benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import click

import tulu_eval
from tulu_eval import plugins
from tulu_eval.cli import foreign, suite_runs
from tulu_eval.cli.common import (
    FOR_REAL,
    end_with_failures,
    execution_options,
    print_json,
    print_text,
    registry_option,
    set_up_logging,
    then_same,
    then_verify,
)
from tulu_eval.cli.engine_options import EngineOptions, engine_options, settings_of
from tulu_eval.cli.names import check_models, check_protocol, complete, complete_models, complete_protocols
from tulu_eval.cli.numeric import WHOLE

if TYPE_CHECKING:
    from tulu_eval.api.evaluate import RunOptions
    from tulu_eval.runs.run_plan import Plan


@click.command(no_args_is_help=True, short_help="Evaluate a model on one benchmark or several.")
@click.argument(
    "benchmarks",
    metavar="BENCHMARK...|SUITE",
    nargs=-1,
    required=True,
    shell_complete=complete("tulu_eval.benchmarks", "tulu_eval.suites"),
)
@click.option(
    "--model", "-m", "model", required=True, multiple=True, shell_complete=complete_models,
    help="Hub id (org/name or org/name@revision), folder, GGUF file, or a name of the registry. Several times: one after the "
    "other; with vLLM, checkpoints that differ in their weights alone share one engine.",
)  # fmt: skip
@click.option("--name", "names", multiple=True, help="What a local model's results are filed under; with several --model once "
              "for each. Unless given: the name that 'train' gave it, else the last two parts of its path.")  # fmt: skip
@click.option(
    "--protocol",
    shell_complete=complete_protocols,
    help="Frozen recipe: card-200 (default of gsm8k), full, ...; see the benchmark.",
)
@click.option("--data", multiple=True, metavar="[BENCHMARK=]PATH",
              help="File, or folder of several, to read instead of the benchmark's own source; with several benchmarks once "
              "for each.")  # fmt: skip
@click.option("--limit", type=WHOLE, help="Run only the first LIMIT items of the protocol.")
@click.option("--shard", metavar="I/N", help="Only part I of N, the first being 1, for N processes of any scheduler; "
              "'tulu-eval merge' puts them together.")  # fmt: skip
@engine_options
@click.option("--seed", type=WHOLE, default=0, show_default=True, help="Seed of sampling; greedy protocols do not use it.")
@click.option("--date", metavar="YYYY-MM-DD", help="Day that a chat template with a date writes, the same for all "
              "shards; that on which the run was started unless given.")  # fmt: skip
@click.option("--output", "-o", type=click.Path(path_type=Path), default=Path("results"), show_default=True,
              help="Folder under which runs are kept.")  # fmt: skip
@click.option("--resume/--fresh", default=True, show_default=True,
              help="Go on from an existing ledger, or set it aside and begin anew.")  # fmt: skip
@registry_option
@execution_options
@click.option("--skip-unavailable", is_flag=True, help="Of a suite: measure the others if some cannot be measured here.")
@click.option(
    "--dry-run", is_flag=True, help="Print the plan: prompts as text and token ids, counts, memory, time. Loads nothing."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
@click.option("--verbose", "-v", count=True, help="Say what the engine does; -vv for other packages' logs too.")
def run(
    benchmarks: tuple[str, ...],
    model: tuple[str, ...],
    names: tuple[str, ...],
    protocol: str | None,
    data: tuple[str, ...],
    limit: int | None,
    shard: str | None,
    backend: str,
    seed: int,
    date: str | None,
    output: Path,
    resume: bool,
    registry: Path | None,
    unsafe_execution: bool,
    sandbox_image: str,
    skip_unavailable: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    verbose: int,
    **engine: Unpack[EngineOptions],
) -> None:
    r"""Evaluate a model on one BENCHMARK or several (gsm8k, gsm-symbolic, alpaca-eval, ...), with one engine start.

    Checkpoints of one architecture take turns in one vLLM engine: --model A --model B --model C.

    A run that was interrupted goes on where it stopped when the same command is given again.

    \b
    Examples:
      tulu-eval run gsm-symbolic -m smollm2-135m-instruct --limit 24
      tulu-eval run gsm8k -m allenai/llama-3-tulu-v2.5-8b-uf-mean-70b-uf-rm
      tulu-eval run gsm8k alpaca-eval -m allenai/tulu-2-dpo-7b
      tulu-eval run gsm8k -m ./sft -m ./dpo -m ./ppo --backend vllm
      tulu-eval run gsm8k alpaca-eval -m ./my-checkpoint --data gsm8k=test.jsonl --data alpaca-eval=alpaca_eval.json
      tulu-eval run gsm8k -m ./my-checkpoint --protocol full --data test.jsonl
      tulu-eval run gsm8k -m allenai/tulu-2-dpo-7b --base-url http://localhost:8000/v1
      tulu-eval run gsm8k -m allenai/tulu-2-dpo-7b --protocol full --shard $SLURM_ARRAY_TASK_ID/7
      tulu-eval run gsm8k -m org/name@main --dry-run
      tulu-eval run tulu-2.5 -m allenai/tulu-2-dpo-7b --data bbh=BIG-Bench-Hard --skip-unavailable
    """
    set_up_logging(verbose, quiet)
    benchmarks = foreign.split(benchmarks)
    plugins.check("benchmark", benchmarks, plugins.BENCHMARKS, plugins.SUITES)
    plugins.check("backend", () if backend == "auto" else (backend,), plugins.BACKENDS)
    if protocol and len(benchmarks) == 1:
        check_protocol(benchmarks[0], protocol)
    if engine["base_url"] is None:
        check_models(model, registry)
    suites = [name for name in benchmarks if name in plugins.names(plugins.SUITES)]
    if suites and len(benchmarks) > 1:
        raise click.UsageError(f"{suites[0]} is a suite, which goes alone", click.get_current_context())
    if skip_unavailable and not suites:
        raise click.UsageError("--skip-unavailable goes with a suite, such as tulu-2.5", click.get_current_context())
    if len(benchmarks) > 1 and protocol:
        raise click.UsageError("--protocol goes with one benchmark", click.get_current_context())
    files = _data(suite_runs.members(suites) or benchmarks, data)
    settings = settings_of(**engine)
    order: RunOptions = {
        "protocol": protocol, "limit": limit, "shard": shard, "backend": backend, "settings": settings, "seed": seed,
        "date": date, "output": output, "fresh": not resume, "unsafe_execution": unsafe_execution,
        "sandbox_image": sandbox_image,
    }  # fmt: skip
    if len(model) > 1 and engine["served_name"]:
        raise click.UsageError("--served-name goes with one --model", click.get_current_context())
    named = _named(model, names)
    if suites:
        pairs = [(one, name) for one, name in zip(model, names or ("",) * len(model), strict=True)]
        if dry_run:
            planned = [
                tulu_eval.plan_suite(suites[0], one, name=name, data=files, registry=registry, **order) for one, name in pairs
            ]
            suite_runs.show_suites(planned, as_json)
        else:
            suite_runs.run_suite(suites[0], pairs, files, skip_unavailable, registry, order, quiet, as_json)
        return
    if dry_run:
        plans = [
            tulu_eval.plan(benchmark, one, name=name, data=files.get(benchmark), registry=registry, **order)
            for one, name in zip(model, names or ("",) * len(model), strict=True)
            for benchmark in benchmarks
        ]
        _show_plans(plans, as_json)
        return
    _run(benchmarks, named, files, registry, order, quiet, as_json)


def _run(
    benchmarks: tuple[str, ...],
    models: tuple[str, ...] | dict[str, str],
    files: dict[str, Path],
    registry: Path | None,
    order: RunOptions,
    quiet: bool,
    as_json: bool,
) -> None:
    from tulu_eval.runs.progress import Progress

    progress = Progress(quiet=quiet)
    runs = tulu_eval.evaluate(benchmarks, models, data=files, registry=registry, progress=progress, **order)
    from tulu_eval.reports import run as run_report
    from tulu_eval.reports.layout import fitted

    if as_json:
        print_json([run_report.as_json(one.folder, one.results, one.tally) for one in runs])
    else:
        for one in runs:
            print_text(run_report.of_run(one.results, one.tally))
            for notice in one.notices:
                progress.say(f"note: {notice}")
            progress.say("\n".join(["", *filter(None, (fitted(one.speed), str(one.folder)))]))
        then_verify(runs[0].folder, registry=registry, quiet=quiet)
    end_with_failures(runs, "the same command tries them again")


def _show_plans(plans: list[Plan], as_json: bool) -> None:
    from tulu_eval.reports import dry_run

    if as_json:
        print_json([dry_run.as_json(plan) for plan in plans])
    else:
        print_text("\n\n".join(dry_run.as_text(plan) for plan in plans), exact=True)
        then_same(FOR_REAL)


def _named(models: tuple[str, ...], names: tuple[str, ...]) -> tuple[str, ...] | dict[str, str]:
    """Returns the models, by name where ``--name`` gives them names."""
    if not names:
        return models
    if len(names) != len(models):
        raise click.UsageError(f"{len(names)} --name for {len(models)} --model", click.get_current_context())
    if len(set(names)) < len(names):
        raise click.UsageError("two models cannot have one --name", click.get_current_context())
    return dict(zip(names, models, strict=True))


def _data(benchmarks: tuple[str, ...], given: tuple[str, ...]) -> dict[str, Path]:
    """Returns the file that ``--data`` names for a benchmark, by benchmark."""
    found: dict[str, Path] = {}
    for value in given:
        name, mark, path = value.partition("=")
        if not (mark and name in benchmarks):
            if len(benchmarks) > 1:
                raise click.UsageError(
                    f"--data {value}: for which benchmark? --data {benchmarks[0]}=FILE", click.get_current_context()
                )
            name, path = benchmarks[0], value
        if name in found:
            raise click.UsageError(f"--data is given twice for {name}", click.get_current_context())
        found[name] = Path(path)
    return found
