"""``tulu-eval audit``: does the same run give the same answers?"""

from __future__ import annotations

from pathlib import Path

import click

import tulu_eval
from tulu_eval.cli.common import execution_options, print_json, print_text, set_up_logging, then_verify
from tulu_eval.cli.names import RUN
from tulu_eval.cli.numeric import WHOLE


@click.command(no_args_is_help=True, short_help="Repeat items of a run and count what changes.")
@click.argument("folder", metavar="RUN", type=RUN)
@click.option("--limit", type=WHOLE, default=32, show_default=True, help="How many items to repeat, drawn from all.")
@click.option("--model", "-m", help="Where the model is, for a run of a local folder or file.")
@click.option("--data", type=click.Path(path_type=Path), help="The data file; the run's own unless given.")
@execution_options
@click.option("--json", "as_json", is_flag=True, help="Print as JSON on stdout.")
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
def audit(
    folder: Path,
    limit: int,
    model: str | None,
    data: Path | None,
    unsafe_execution: bool,
    sandbox_image: str,
    as_json: bool,
    quiet: bool,
) -> None:
    r"""Repeat items of RUN one row at a time, in a full batch and without a shared prefix; count what changes.

    Greedy decoding is deterministic on paper and not in 16-bit arithmetic. The share of grades that flip widens the run's
    interval, is written to RUN/audit.json, and is the allowance that 'tulu-eval verify' then makes.

    \b
    Example:
      tulu-eval audit results/smollm2-135m-instruct/gsm8k/card-200-1a2b3c4d --data test.jsonl --limit 16
    """
    set_up_logging(0, quiet)
    import msgspec

    from tulu_eval.reports import audit as report
    from tulu_eval.runs.progress import Progress

    found = tulu_eval.audit(
        folder, limit, model=model, data=data, unsafe_execution=unsafe_execution, sandbox_image=sandbox_image,
        progress=Progress(quiet=quiet),
    )  # fmt: skip
    if as_json:
        print_json(msgspec.to_builtins(found))
    else:
        print_text(report.as_text(found))
        then_verify(folder, quiet=quiet)
