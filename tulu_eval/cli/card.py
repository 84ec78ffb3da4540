"""``tulu-eval card``: what belongs on a model card, and what is wrong on one."""

from __future__ import annotations

from pathlib import Path

import click

import tulu_eval
from tulu_eval.cli.common import print_json, print_text, registry_option, say, then
from tulu_eval.cli.names import FILE, check_models, complete_models


@click.command(no_args_is_help=True)
@click.argument("model", required=False, shell_complete=complete_models)
@click.option("--check", "checked", metavar="FILE", type=FILE, help="Check this model card instead.")
@click.option("--results", type=click.Path(path_type=Path), default=Path("results"), show_default=True,
              help="Folder under which run folders are looked for.")  # fmt: skip
@click.option("--published", is_flag=True, help="Also the numbers that were published of the model, marked as such.")
@click.option("--output", "-o", metavar="DIR", type=click.Path(path_type=Path),
              help="Write results.md and .eval_results/*.yaml into this folder; other texts there are kept.")  # fmt: skip
@registry_option
@click.option("--json", "as_json", is_flag=True, help="Print as JSON on stdout.")
def card(
    model: str | None,
    checked: Path | None,
    results: Path,
    published: bool,
    output: Path | None,
    registry: Path | None,
    as_json: bool,
) -> None:
    r"""Make what belongs on the card of MODEL, or check a card.

    From the finished runs of MODEL (a name of the registry, or what its runs are filed under): model-index metadata, a results
    section in Markdown with n, interval, verdict and signature of each number, and the hub's .eval_results file. The hub's own
    library reads all of it back before it is printed. Rows that are not whole are left out and named on stderr.

    --check names every place where a card contradicts itself or the registry, or where the hub does not read it: the line, what
    the card says, what is known instead and from where. MODEL says whose card it is where its metadata does not. Exit code 1 if
    anything was found, 0 if nothing, 2 if the file cannot be read as a model card.

    \b
    Examples:
      tulu-eval card allenai/tulu-2-13b --published
      tulu-eval card my-checkpoint --results results --output my-checkpoint-repository
      tulu-eval card --check README.md
    """
    if checked is not None and (published or output is not None):
        raise click.UsageError("--check only reads; --published and --output make a card", click.get_current_context())
    if checked is not None:
        _check(checked, model, registry, as_json)
    elif model is None:
        raise click.UsageError("give a MODEL, or --check FILE", click.get_current_context())
    else:
        _make(model, results, published, output, registry, as_json)


def _check(path: Path, model: str | None, registry: Path | None, as_json: bool) -> None:
    from tulu_eval.reports import card as report

    found = tulu_eval.check_card(path, model=model, registry=registry)
    if as_json:
        print_json(report.as_json(path, found.model, found.findings))
    else:
        print_text(report.as_text(path, found.model, found.findings))
        then(*("models", "show", found.model.name) if found.model else ("models",))
    if found.findings:
        raise click.exceptions.Exit(1)


def _make(model: str, results: Path, published: bool, output: Path | None, registry: Path | None, as_json: bool) -> None:
    if not results.is_dir():
        check_models([model], registry)
    made = tulu_eval.make_card(model, results=results, published=published, registry=registry)
    if not results.is_dir():
        say(f"tulu-eval: no folder {results}, so nothing was measured")
    for line in made.left_out:
        say(f"tulu-eval: not on the card: {line}")
    if as_json:
        print_json({"model": made.name, "metadata": made.metadata, "section": made.section, "files": made.files})
    elif output is None:
        print_text(made.text, end=False, exact=True)
        then("card", model, *(("--published",) if published else ()), "--output", "DIR")
    else:
        for path in made.write(output):
            print_text(f"{path}")
        then("card", "--check", output / "results.md", made.name)
