"""``tulu-eval card``: what belongs on a model card, and what is wrong on one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tulu_eval.cli.common import complete_models, print_json, print_text, registry_option, say

if TYPE_CHECKING:
    from tulu_eval.registry import Suite


@click.command(no_args_is_help=True)
@click.argument("model", required=False, shell_complete=complete_models)
@click.option("--check", "checked", metavar="FILE", type=click.Path(path_type=Path), help="Check this model card instead.")
@click.option("--results", type=click.Path(path_type=Path), default=Path("results"), show_default=True,
              help="Folder under which run folders are looked for.")  # fmt: skip
@click.option("--published", is_flag=True, help="Also the numbers that were published of the model, marked as such.")
@click.option("--write", metavar="DIR", type=click.Path(path_type=Path),
              help="Write results.md and .eval_results/*.yaml into this folder; other texts there are kept.")  # fmt: skip
@registry_option
@click.option("--json", "as_json", is_flag=True, help="Print as JSON on stdout.")
def card(
    model: str | None,
    checked: Path | None,
    results: Path,
    published: bool,
    write: Path | None,
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
      tulu-eval card my-checkpoint --results results --write my-checkpoint-repository
      tulu-eval card --check README.md
    """
    from tulu_eval.registry import load_suite

    if checked is not None and (published or write is not None):
        raise click.UsageError("--check only reads; --published and --write make a card", click.get_current_context())
    suite = load_suite(registry)
    if checked is not None:
        _check(checked, model, suite, as_json)
    elif model is None:
        raise click.UsageError("give a MODEL, or --check FILE", click.get_current_context())
    else:
        _make(model, suite, results, published, write, as_json)


def _check(path: Path, model: str | None, suite: Suite, as_json: bool) -> None:
    from tulu_eval.registry import lint
    from tulu_eval.registry.card_file import read_card
    from tulu_eval.reports import lint as report

    file = read_card(path)
    whose = suite.find(model) if model else lint.model_of(file, suite)
    findings = lint.check(file, suite, whose)
    if as_json:
        print_json(report.as_json(path, whose, findings))
    else:
        print_text(report.as_text(path, whose, findings))
    if findings:
        raise click.exceptions.Exit(1)


def _make(model: str, suite: Suite, results: Path, published: bool, write: Path | None, as_json: bool) -> None:
    from tulu_eval.errors import UserError
    from tulu_eval.reports import card as report
    from tulu_eval.runs.manifest import write_text

    made = report.make(model, suite, results, published)
    if not results.is_dir():
        say(f"tulu-eval: no folder {results}, so nothing was measured")
    for line in made.left_out:
        say(f"tulu-eval: not on the card: {line}")
    front, section, files = report.metadata(made), report.section(made, suite), report.hub_files(made)
    if as_json:
        print_json({"model": made.name, "metadata": front, "section": section, "files": files})
        return
    body = f"---\n{front}---\n{section}"
    if write is None:
        print_text(body, end=False)
        return
    texts = {write / name: text for name, text in {"results.md": body, **files}.items()}
    for path, text in texts.items():
        if path.exists() and (not path.is_file() or path.read_bytes() != text.encode()):
            raise UserError(f"{path} exists and is not this text; nothing was written: remove it, or name another folder")
    for path, text in texts.items():
        write_text(path, text)
        print_text(f"{path}")
