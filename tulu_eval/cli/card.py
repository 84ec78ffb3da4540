"""``tulu-eval card``: what belongs on a model card, and what is wrong on one."""

from __future__ import annotations

from pathlib import Path

import click

from tulu_eval.cli.common import complete_models, print_json, registry_option


@click.command(no_args_is_help=True)
@click.argument("model", required=False, shell_complete=complete_models)
@click.option("--check", "checked", metavar="FILE", type=click.Path(path_type=Path), help="Check this model card instead.")
@registry_option
@click.option("--json", "as_json", is_flag=True, help="Print as JSON on stdout.")
def card(model: str | None, checked: Path | None, registry: Path | None, as_json: bool) -> None:
    r"""Check a model card.

    --check names every place where a card contradicts itself or the registry, or where the hub does not read it: the line, what
    the card says, what is known instead and from where. MODEL says whose card it is where its metadata does not. Exit code 1 if
    anything was found, 0 if nothing, 2 if the file cannot be read as a model card.

    \b
    Examples:
      tulu-eval card --check README.md
      tulu-eval card tulu-2-dpo-13b --check README.md --json
    """
    from tulu_eval.registry import lint, load_suite
    from tulu_eval.registry.card_file import read_card
    from tulu_eval.reports import lint as report

    suite = load_suite(registry)
    if checked is not None:
        file = read_card(checked)
        whose = suite.find(model) if model else lint.model_of(file, suite)
        findings = lint.check(file, suite, whose)
        if as_json:
            print_json(report.as_json(checked, whose, findings))
        else:
            click.echo(report.as_text(checked, whose, findings))
        if findings:
            raise click.exceptions.Exit(1)
