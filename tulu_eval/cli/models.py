"""``tulu-eval models``: what the registry knows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

import tulu_eval
from tulu_eval.cli.common import Verbs, print_json, print_text, registry_option, then
from tulu_eval.cli.names import complete_models, complete_stages

if TYPE_CHECKING:
    from tulu_eval.registry import Model, Suite


@click.group(cls=Verbs, invoke_without_command=True)
@click.option(
    "--stage",
    metavar="STAGE",
    shell_complete=complete_stages,
    help="Only models of this stage: base, SFT, DPO, RM, PPO, value or instruct.",
)
@registry_option
@click.option("--json", "as_json", is_flag=True, help="Print as JSON on stdout.")
@click.pass_context
def models(context: click.Context, stage: str | None, registry: Path | None, as_json: bool) -> None:
    r"""List the suite's models with their published numbers, or show one.

    \b
    Examples:
      tulu-eval models --stage PPO
      tulu-eval models show tulu-v2.5-ppo-13b-uf-mean-70b-uf-rm
      tulu-eval models --registry ours.toml --json
    """
    if context.invoked_subcommand is not None:
        return
    chosen = tulu_eval.list_models(stage, registry=registry)
    from tulu_eval.reports import models as report

    suite = tulu_eval.load_suite(registry)
    if as_json:
        print_json(report.list_as_json(suite, chosen))
    else:
        print_text(report.list_as_text(suite, chosen))
        if chosen:
            then("models", "show", chosen[0].name)


@models.command(no_args_is_help=True)
@click.argument("name", shell_complete=complete_models)
@registry_option
@click.option("--json", "as_json", is_flag=True, help="Print as JSON on stdout.")
@click.pass_context
def show(context: click.Context, name: str, registry: Path | None, as_json: bool) -> None:
    r"""Show one model: numbers with sources, contradictions, lineage, known defects of its files.

    NAME is a hub id, a former hub id, or either without the organisation, in any case.

    \b
    Examples:
      tulu-eval models show tulu-2-dpo-13b
      tulu-eval models show allenai/llama-3-tulu-v2.5-8b-uf-mean-70b-uf-rm --json
    """
    before = context.parent.params if context.parent else {}
    registry = registry or before.get("registry")
    model = tulu_eval.find_model(name, registry=registry)
    from tulu_eval.reports import models as report

    suite = tulu_eval.load_suite(registry)
    if as_json or before.get("as_json"):
        print_json(report.one_as_json(suite, model))
    else:
        print_text(report.one_as_text(suite, model))
        then(*_use(suite, model), *(("--registry", registry) if registry else ()))


def _use(suite: Suite, model: Model) -> tuple[str, ...]:
    """Returns the words of a command that uses a model: a reward or value model trains, all others are measured."""
    if model.stage in ("RM", "value"):
        return ("train", "ppo", "--recipe", "easylm", "--dry-run")
    measured = [cell for cell in suite.cells(model) if cell.protocol is not None]
    first = next((cell for cell in measured if cell.benchmark == "gsm8k"), measured[0] if measured else None)
    recipe = ("gsm8k",) if first is None else (first.benchmark, "--protocol", str(first.protocol))
    return ("run", *recipe, "--model", model.name, "--dry-run")
