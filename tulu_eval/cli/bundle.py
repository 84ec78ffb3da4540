"""``tulu-eval bundle`` and ``verify-bundle``: a run as one file that a reviewer can check alone."""

from __future__ import annotations

from pathlib import Path

import click

import tulu_eval
from tulu_eval.cli.common import print_json, print_text, say, then
from tulu_eval.cli.names import FILE, RUN
from tulu_eval.errors import counted


@click.command(no_args_is_help=True, short_help="Put a run into one file that a reviewer can check.")
@click.argument("folder", metavar="RUN", type=RUN)
@click.option("--output", "-o", type=click.Path(path_type=Path), help="The file; MODEL-BENCHMARK-RUN.zip here unless given.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON on stdout.")
def bundle(folder: Path, output: Path | None, as_json: bool) -> None:
    r"""Put a run into one archive with all that is needed to compute its numbers again.

    Manifest, completions, right answers, the constant part of the prompt, hashes of the prompts, the numbers, and a sha256 of
    each part. No network, GPU or model is needed to check it. The same run gives the same bytes. The id that is printed is a
    hash over all parts: publish it, and nobody can pass off another bundle as yours.

    \b
    Examples:
      tulu-eval bundle results/allenai__tulu-2-13b/gsm8k/card-200-1a2b3c4d
      tulu-eval bundle RUN --output proof.zip
    """
    made = tulu_eval.bundle(folder, output=output)
    if as_json:
        print_json({"file": str(made.file), "id": made.id, "bytes": made.size, "unhashed": made.unhashed})
    else:
        print_text(f"{made.file}  {made.size:,} bytes\nid {made.id}")
        if made.unhashed:
            print_text(f"beware: the run {made.unhashed}")
        then("verify-bundle", made.file)


@click.command("verify-bundle", no_args_is_help=True, short_help="Check a bundle and compute its numbers again.")
@click.argument("file", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON on stdout.")
def verify_bundle(file: Path, as_json: bool) -> None:
    r"""Check every byte of FILE, grade its completions again and compare the numbers.

    Needs no network, GPU or model; unpacks nothing. A changed part is named. Exit code 0: whole, and the numbers are those of
    the completions. 1: something was changed, or the numbers differ. 2: FILE cannot be read as a bundle.

    \b
    Examples:
      tulu-eval verify-bundle allenai__tulu-2-13b-gsm8k-card-200-1a2b3c4d.zip
      tulu-eval verify-bundle proof.zip --json
    """
    import dataclasses

    from tulu_eval.reports import run

    found = tulu_eval.verify_bundle(file)
    if as_json:
        print_json({"file": str(file), "good": not found.problems, **dataclasses.asdict(found)})
    else:
        for problem in found.problems:
            print_text(f"{file}: {problem}")
        if found.results:
            text = f"{found.model} on {found.benchmark}: {counted(found.samples, 'sample')} graded again\n"
            text += f"{run.of_run(found.results, found.tally)}\n"
            print_text(text)
        for note in found.notes:
            print_text(f"{file}: {note}")
        print_text(f"{file}: {'NOT as it was made' if found.problems else 'whole; the numbers are those of its completions'}")
        print_text(f"id {found.id}")
        if not found.problems:
            say("next: compare this id with the one that the maker of the run published")
    if found.problems:
        raise click.exceptions.Exit(1)
