"""``tulu-eval report``: all results in one HTML file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

import tulu_eval
from tulu_eval.cli.common import on_terminal, print_json, print_text, registry_option, say, then
from tulu_eval.cli.names import RESULTS
from tulu_eval.errors import UserError, counted


@click.command()
@click.option("--results", type=click.Path(path_type=Path), default=Path("results"), show_default=True,
              help="Folder under which run folders are looked for.")  # fmt: skip
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), help="The file; report.html in the results folder unless given."
)
@click.option("--data", multiple=True, metavar="BENCHMARK=FILE",
              help="Items of a benchmark, for the prompts' text; those that a run read unless given. Repeatable.")  # fmt: skip
@click.option("--training", type=click.Path(path_type=Path),
              help="Folder under which training runs are looked for; 'training', if it exists, unless given.")  # fmt: skip
@registry_option
@click.option("--json", "as_json", is_flag=True, help="Print as JSON on stdout.")
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
def report(
    results: Path,
    output: Path | None,
    data: tuple[str, ...],
    training: Path | None,
    registry: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    r"""Write one HTML page with everything that was measured.

    Leaderboard with published numbers beside measured ones, a dot plot, every run with its signature, its samples with prompt,
    completion and grades, the suite's lineage and its contradictions; of training runs the curves, sample rollouts and the
    probe's gain. The file is complete: it opens without a network and asks for nothing. A run folder that cannot be used, or
    that was changed by hand, is named on it and on stderr.

    \b
    Examples:
      tulu-eval report
      tulu-eval report --results results --output report.html
      tulu-eval report --data gsm8k=test.jsonl
      tulu-eval report --results training/reproduce-sums-0/results --training training/reproduce-sums-0
    """
    from tulu_eval.plugins import BENCHMARKS, names

    RESULTS.check(results)
    files: dict[str, Path] = {}
    for pair in data:
        name, equals, path = pair.partition("=")
        if not equals or name not in names(BENCHMARKS):
            raise UserError(f"--data takes BENCHMARK=FILE, with a benchmark among {', '.join(names(BENCHMARKS))}; not {pair!r}")
        files[name] = Path(path)
    page = tulu_eval.report(
        results, output=output, data=files, training=training, registry=registry, progress=on_terminal(quiet)
    )
    for problem in page.problems:
        say(f"tulu-eval: left out: {problem}")
    if training is not None and not page.trained:
        say(f"tulu-eval: no training run under {training}; 'tulu-eval train' and 'tulu-eval reproduce' make one")
    if len(page.promptless) > 1 and not as_json:
        say(
            f"tulu-eval: without the prompts' text of {len(page.promptless)} benchmarks, which --data BENCHMARK=FILE gives; "
            "the page says of each where its file is from"
        )
    else:
        for line in page.promptless:
            say(f"tulu-eval: without the prompts' text: {line}")
    if as_json:
        print_json({**dataclasses.asdict(page), "path": str(page.path)})
        return
    trained = f", {counted(page.trained, 'training run')}" if page.trained else ""
    print_text(f"{page.path}: {counted(page.runs, 'run')}{trained}, {page.size / 1e6:.1f} MB")
    then("table", "--results", results, quiet=quiet)
