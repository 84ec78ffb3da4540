"""``tulu-eval doctor``: what is installed here, and what each extra would add."""

from __future__ import annotations

import dataclasses

import click

import tulu_eval
from tulu_eval.cli.common import print_json, print_text, then


@click.command(short_help="Show versions, devices, hub, disk and extras.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON on stdout.")
def doctor(as_json: bool) -> None:
    """Show versions, devices, the hub, the disk, and what each extra would add."""
    from tulu_eval.reports import doctor as report

    found = tulu_eval.doctor()
    if as_json:
        print_json(dataclasses.asdict(found))
    else:
        print_text(report.as_text(found))
        then("run", "sums", "-m", "smollm2-135m-instruct", "--protocol", "four-shot")
