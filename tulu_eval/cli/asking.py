"""What the verbs that ask a judge share: the options, the consent to the costs, and the count of answers."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

import click

from tulu_eval.cli.common import say
from tulu_eval.cli.numeric import NUMBER, WHOLE
from tulu_eval.errors import UserError, counted

if TYPE_CHECKING:
    from tulu_eval.api.asking import AskingOptions
    from tulu_eval.judging.budget import JudgingEstimate
    from tulu_eval.stats.length_control import FoldMode

F = TypeVar("F", bound=Callable[..., Any])

LOG_SECONDS = 10.0
"""Seconds between two lines of progress if stderr is no terminal."""

_OPTIONS = (
    click.option("--judge", "judge_name", metavar="NAME", help="The judge's name at its endpoint, e.g. gpt-4.1."),
    click.option("--judge-url", "url", metavar="URL", help="OpenAI-compatible endpoint, e.g. http://127.0.0.1:8000/v1; "
                 "OpenAI's own unless given, or Azure's as --base-url of run takes it. The key comes from TULU_EVAL_JUDGE_KEY, "
                 "for OpenAI also from OPENAI_API_KEY, for Azure from AZURE_OPENAI_API_KEY."),
    click.option("--judge-vllm", "vllm", metavar="MODEL", help="Judge with a vLLM engine in this process instead: a model as "
                 "--model of run takes it. For one on several GPUs use 'vllm serve' and --judge-url."),
    click.option("--method", default="logprobs", show_default=True, type=click.Choice(["logprobs", "text", "ranking"]),
                 help="logprobs: weigh m against M, as published. text: read the answer, for judges without logprobs; "
                 "another method makes another number. ranking: AlpacaEval 1 instead of 2; published with the judge gpt-4."),
    click.option("--concurrency", type=WHOLE, default=8, show_default=True, help="Requests in flight."),
    click.option("--timeout", type=NUMBER, default=120.0, show_default=True, help="Seconds for one answer."),
    click.option("--price", metavar="IN,OUT", help="Dollars per million tokens, instead of the table's."),
    click.option("--prices", type=click.Path(path_type=Path), help="A price table of your own (TOML)."),
    click.option("--max-cost", type=NUMBER, metavar="DOLLARS", help="Stop before this is crossed."),
    click.option("--cache", type=click.Path(path_type=Path), help="File of this judge's answers; in the user's cache unless "
                 "given. What is in it is never asked again."),
    click.option("--yes", "-y", is_flag=True, help="Do not ask whether it may cost that."),
    click.option("--dry-run", is_flag=True, help="Print what it would cost and three of the judge's prompts. Sends nothing."),
    click.option("--json", "as_json", is_flag=True, help="Print as JSON on stdout."),
    click.option("--quiet", "-q", is_flag=True, help="No progress."),
)  # fmt: skip

_SCORING = (
    click.option("--gamed", type=click.Path(path_type=Path), help="Copy of df_gamed.csv; the hub's pinned one unless given."),
    click.option("--folds", default="leaderboard", show_default=True, type=click.Choice(["leaderboard", "stable"]),
                 help="How rows are dealt when LC's regularisation is chosen: as behind the leaderboard, or as today's "
                 "scikit-learn does."),
    click.option("--c", type=NUMBER, metavar="C", help="LC's regularisation constant, instead of the one that the folds "
                 "choose; the number is then filed apart."),
    click.option("--partial", is_flag=True, help="Take fewer than 805, LC included, which is then marked."),
    click.option("--calibration", type=click.Path(path_type=Path), metavar="FILE",
                 help="File that calibrate-judge wrote: adds the raw win rate on the original judge's scale."),
)  # fmt: skip


class ScoringOptions(TypedDict):
    """Values of the options of scoring, by parameter."""

    gamed: Path | None
    folds: FoldMode
    c: float | None
    partial: bool
    calibration: Path | None


if TYPE_CHECKING:

    class JudgeOptions(AskingOptions, ScoringOptions):
        """What the options of a judge and of scoring say, by the parameters' names."""


def scoring_options(command: F) -> F:
    """Adds the options of scoring to a verb."""
    for option in reversed(_SCORING):
        command = option(command)
    return command


def judge_options(command: F) -> F:
    """Adds the options of a judge to a verb."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def consent(*, yes: bool, max_cost: float | None, quiet: bool) -> Callable[[JudgingEstimate], None]:
    """Returns a function that prints the costs and, on a terminal, asks for consent.

    The function raises UserError if there is no terminal and neither --yes nor --max-cost was given, and Abort if the answer
    is no.
    """

    def ask(estimate: JudgingEstimate) -> None:
        free = estimate.requests == 0 or estimate.dollars == 0
        if not quiet or not (yes or free):
            say(*str(estimate).split("\n"))
        if yes or free:
            return
        if sys.stdin.isatty() and sys.stderr.isatty():
            click.confirm("go on?", abort=True, err=True)
        elif max_cost is None:
            raise UserError(
                f"{counted(estimate.requests, 'request')} to a judge may cost money: say --yes, or --max-cost DOLLARS"
            )

    return ask


class Answers:
    """Counts answers on stderr: in place on a terminal, else one line per :data:`LOG_SECONDS`. Threads may share it."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet, self._terminal = quiet, sys.stderr.isatty()
        self._lock = threading.Lock()
        self._spoke = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Shows how many answers of how many have come."""
        with self._lock:
            last = done >= total
            if self._quiet or not (self._terminal or last or time.monotonic() - self._spoke > LOG_SECONDS):
                return
            self._spoke = time.monotonic()
            click.echo(f"{done}/{total} answers", err=True, nl=not self._terminal or last)
            if self._terminal and not last:
                click.echo("\r", err=True, nl=False)
