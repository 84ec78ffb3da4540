"""What the verbs that ask a judge share: its options, the question whether it may cost something, and its endpoint."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from tulu_eval.cli.common import say
from tulu_eval.cli.numeric import NUMBER, WHOLE
from tulu_eval.errors import UserError

if TYPE_CHECKING:
    from tulu_eval.backends.base import ModelFiles
    from tulu_eval.judging.budget import Estimate, Price
    from tulu_eval.judging.judge import Endpoint
    from tulu_eval.judging.recipe import Recipe
    from tulu_eval.judging.session import Scoring
    from tulu_eval.stats.length_control import FoldMode

F = TypeVar("F", bound=Callable[..., Any])

LOG_SECONDS = 10.0
"""Between two lines of progress where there is no terminal."""

_OPTIONS = (
    click.option("--judge", "judge_name", metavar="NAME", help="The judge's name at its endpoint, e.g. gpt-4.1."),
    click.option("--judge-url", metavar="URL", help="OpenAI-compatible endpoint, e.g. http://127.0.0.1:8000/v1; OpenAI's own "
                 "unless given, or Azure's as --base-url of run takes it. The key comes from TULU_EVAL_JUDGE_KEY, for OpenAI "
                 "also from OPENAI_API_KEY, for Azure from AZURE_OPENAI_API_KEY."),
    click.option("--judge-vllm", metavar="MODEL", help="Judge with a vLLM engine in this process instead: a model as "
                 "--model of run takes it. For one on several GPUs use 'vllm serve' and --judge-url."),
    click.option("--method", default="logprobs", show_default=True, type=click.Choice(["logprobs", "text"]),
                 help="logprobs: weigh m against M, as published. text: read the answer, for judges without logprobs; "
                 "another method makes another number."),
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
                 help="Of calibrate-judge: adds the raw win rate on the original judge's scale."),
)  # fmt: skip


def scoring_options(command: F) -> F:
    """Adds the options of scoring to a verb."""
    for option in reversed(_SCORING):
        command = option(command)
    return command


def scoring_of(gamed: Path | None, folds: FoldMode, partial: bool, c: float | None) -> Scoring:
    """Returns how judgments become a number.

    Raises:
        UserError: C is outside the grid from which the published recipe chooses it.
    """
    from tulu_eval.judging.score import LARGEST_C, SMALLEST_C
    from tulu_eval.judging.session import Scoring

    if c is not None and not SMALLEST_C <= c <= LARGEST_C:
        raise UserError(f"--c {c!r} must be from {SMALLEST_C} to {LARGEST_C:.0f}, the ends of the grid of the published recipe")
    return Scoring(gamed, folds, partial, c=c)


def judge_options(command: F) -> F:
    """Adds the options of a judge to a verb."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def recipe_of(
    judge_name: str | None, judge_vllm: str | None, judge_url: str | None, method: Literal["logprobs", "text"]
) -> tuple[Recipe, ModelFiles | None]:
    """Returns how the chosen judge is asked, and its files where it is a model in this process.

    Raises:
        UserError: No judge was named, two were, or there is no such model.
    """
    from tulu_eval.judging.recipe import load_recipe
    from tulu_eval.registry import load_suite
    from tulu_eval.runs import local_judge, models

    if judge_vllm and judge_url:
        raise UserError("--judge-url and --judge-vllm are two judges; give one of them")
    if not judge_vllm and not judge_name:
        raise UserError("who judges? --judge NAME, with --judge-url unless it is OpenAI's, or --judge-vllm MODEL")
    local = models.resolve(judge_vllm, load_suite())[0] if judge_vllm else None
    return load_recipe(judge_name or (local_judge.judge_name(local) if local else ""), method), local


def price_of(recipe: Recipe, price: str | None, prices: Path | None, local: ModelFiles | None) -> Price | None:
    """Returns the judge's price: as given, else of the given table, else of the package's; None where it is not known.

    Raises:
        UserError: Price and table are both given, or one cannot be read.
    """
    from tulu_eval.judging.budget import Price, find_price, parse_price, read_prices

    if price is not None and prices is not None:
        raise UserError("--price and --prices both say what it costs; give one of them")
    if local:
        return Price(0.0, 0.0, "an engine in this process")
    if price is not None:
        return parse_price(price)
    return read_prices(prices, recipe.judge) if prices is not None else find_price(recipe.judge)


def consent(estimate: Estimate, *, yes: bool, max_cost: float | None, quiet: bool) -> None:
    """Shows what it will cost and asks, on a terminal; elsewhere somebody must have said yes before.

    Raises:
        UserError: There is no terminal and neither --yes nor --max-cost.
        Abort: The answer was no.
    """
    free = estimate.requests == 0 or estimate.dollars == 0
    if not quiet or not (yes or free):
        say(*str(estimate).split("\n"))
    if yes or free:
        return
    if sys.stdin.isatty() and sys.stderr.isatty():
        click.confirm("go on?", abort=True, err=True)
    elif max_cost is None:
        raise UserError(f"{estimate.requests} requests to a judge may cost money: say --yes, or --max-cost DOLLARS")


@contextlib.contextmanager
def endpoint_of(
    recipe: Recipe, judge_url: str | None, local: ModelFiles | None, concurrency: int, timeout: float, *, needed: bool
) -> Iterator[tuple[Endpoint, str]]:
    """Yields the endpoint and its address for the manifest.

    Args:
        recipe: Of the judge.
        judge_url: Of the server.
        local: Model of the engine in this process.
        concurrency: Requests in flight.
        timeout: Seconds for one answer.
        needed: Whether anything will be asked; if not, no server has to be there and no engine is started.
    """
    from tulu_eval.endpoint.url import OPENAI_URL, key_for, parse_base_url
    from tulu_eval.judging.client import KEY_VARIABLE, HttpJudge

    if local and needed:
        from tulu_eval.runs.local_judge import local_judge

        with local_judge(local) as engine:
            yield engine, f"vllm in process: {recipe.judge}"
        return
    url = judge_url or OPENAI_URL
    judge = HttpJudge(
        url, key_for(parse_base_url(url, "the judge"), os.environ, KEY_VARIABLE) if needed else "", concurrency, timeout
    )
    if needed:
        judge.check()
    yield judge, f"vllm in process: {recipe.judge}" if local else str(judge.url)


class Answers:
    """Counts answers on stderr: in place on a terminal, a line now and then elsewhere. Safe among threads."""

    def __init__(self, total: int, *, quiet: bool) -> None:
        self._total, self._quiet, self._terminal = total, quiet, sys.stderr.isatty()
        self._lock = threading.Lock()
        self._spoke = time.monotonic()

    def __call__(self, done: int) -> None:
        """Is told how many answers have come."""
        with self._lock:
            last = done >= self._total
            if self._quiet or not (self._terminal or last or time.monotonic() - self._spoke > LOG_SECONDS):
                return
            self._spoke = time.monotonic()
            click.echo(f"{done}/{self._total} answers", err=True, nl=not self._terminal or last)
            if self._terminal and not last:
                click.echo("\r", err=True, nl=False)
