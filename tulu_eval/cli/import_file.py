"""``tulu-eval import``: a run folder from another harness's file."""

from __future__ import annotations

from pathlib import Path

import click

import tulu_eval
from tulu_eval.cli.common import execution_options, print_json, print_text, registry_option, then_verify
from tulu_eval.cli.names import FILE, complete, complete_models


@click.command("import", no_args_is_help=True, short_help="Make a run of another harness's answers.")
@click.argument("file", type=FILE)
@click.option("--model", "-m", required=True, shell_complete=complete_models,
              help="Who wrote the answers: any name; @REVISION after it where the commit is known.")  # fmt: skip
@click.option("--benchmark", default="gsm8k", show_default=True, shell_complete=complete("tulu_eval.benchmarks"),
              help="Whose items they are to.")  # fmt: skip
@click.option("--data", type=click.Path(path_type=Path), help="The benchmark's data file instead of its own source.")
@click.option("--output", "-o", type=click.Path(path_type=Path), default=Path("results"), show_default=True,
              help="Folder under which runs are kept.")  # fmt: skip
@registry_option
@execution_options
@click.option("--json", "as_json", is_flag=True, help="Print as JSON on stdout.")
def import_file(
    file: Path,
    model: str,
    benchmark: str,
    data: Path | None,
    output: Path,
    registry: Path | None,
    unsafe_execution: bool,
    sandbox_image: str,
    as_json: bool,
) -> None:
    r"""Make a run folder of the answers in FILE, which another harness wrote, and grade them.

    \b
    The harness is known by the file:
      lm-eval         samples_TASK_DATE.jsonl (--log_samples); results_DATE.json
                      beside it is read too
      olmes           task-NNN-TASK-predictions.jsonl, with -requests.jsonl
                      beside it (--save-raw-requests true)
      open-instruct   predictions.jsonl of eval.gsm.run_eval
      any other       rows with 'prompt' and 'response', as IFEval's

    Items are matched by the text of the question; what does not fit is named and left out. The run can then be scored,
    verified, compared and bundled as any other. What the file does not say of prompts and settings is signed "unknown".

    \b
    Examples:
      tulu-eval import samples_gsm8k_cot_2025-01-01T10-00-00.000000.jsonl -m allenai/tulu-2-13b
      tulu-eval import predictions.jsonl -m my-checkpoint --data test.jsonl
      tulu-eval import responses.jsonl -m my-checkpoint --benchmark ifeval
    """
    from tulu_eval.reports import import_file as report

    done = tulu_eval.import_run(
        file, model, benchmark=benchmark, data=data, output=output, registry=registry, unsafe_execution=unsafe_execution,
        sandbox_image=sandbox_image,
    )  # fmt: skip
    if as_json:
        print_json(report.as_json(done))
    else:
        print_text(report.as_text(done))
        then_verify(done.folder, registry=registry)
