"""What the functions that ask a judge share: the judge and its settings, the consent to the costs, and the progress."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from tulu_eval.api.models import load_suite
from tulu_eval.api.paths import AnyPath
from tulu_eval.endpoint.url import OPENAI_URL, key_for, parse_base_url
from tulu_eval.errors import UserError
from tulu_eval.judging.budget import JudgingEstimate, Price, find_price, parse_price, read_prices
from tulu_eval.judging.endpoint_judge import KEY_VARIABLE, HttpJudge
from tulu_eval.judging.judge import Endpoint
from tulu_eval.judging.judge_recipe import JudgeRecipe, Method, load_recipe
from tulu_eval.models import resolve
from tulu_eval.models.base import ModelFiles
from tulu_eval.runs import judge as judge_runs
from tulu_eval.runs import local_judge

Confirm = bool | Callable[[JudgingEstimate], object]
"""Whether judging may cost the estimate; or a function that gets the estimate first and raises to stop."""

Counter = Callable[[int, int], None]
"""A function that gets the number of answers so far and the number of all; threads call it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Asking:
    """How a judge is asked.

    Attributes:
        recipe: Judge, prompt and settings.
        local: Files of a model in this process; None for a server.
        price: Dollars per million tokens; None if unknown.
        cache: File of its answers.
        url: Address of its server.
        concurrency: Requests in flight.
        timeout: Seconds for one answer.
    """

    recipe: JudgeRecipe
    local: ModelFiles | None
    price: Price | None
    cache: Path
    url: str
    concurrency: int = 8
    timeout: float = 120.0

    @contextlib.contextmanager
    def endpoint(self, *, needed: bool) -> Iterator[tuple[Endpoint, str]]:
        """Yields the endpoint and its address for the manifest.

        Args:
            needed: Whether anything will be asked; if not, the server is not looked for and no engine starts.
        """
        name = f"vllm in process: {self.recipe.judge}"
        if self.local and needed:
            with local_judge.local_judge(self.local) as engine:
                yield engine, name
            return
        key = key_for(parse_base_url(self.url, "the judge"), os.environ, KEY_VARIABLE) if needed else ""
        judge = HttpJudge(self.url, key, self.concurrency, self.timeout)
        if needed:
            judge.check()
        yield judge, name if self.local else str(judge.url)


def asking_of(
    judge: str,
    vllm: str | None,
    url: str | None,
    method: Method,
    price: str | tuple[float, float] | None,
    prices: AnyPath | None,
    cache: AnyPath | None,
    concurrency: int = 8,
    timeout: float = 120.0,
) -> Asking:
    """Returns how the chosen judge is asked.

    Raises:
        UserError: If no judge is named, or two are, if there is no such model, or the price cannot be read.
    """
    if vllm and url:
        raise UserError("--judge-url and --judge-vllm are two judges; give one of them")
    if not vllm and not judge:
        raise UserError("who judges? --judge NAME, with --judge-url unless it is OpenAI's, or --judge-vllm MODEL")
    local = resolve.resolve(vllm, load_suite())[0] if vllm else None
    recipe = load_recipe(judge or (local_judge.judge_name(local) if local else ""), method)
    file = judge_runs.cache_of(recipe) if cache is None else Path(cache)
    return Asking(recipe, local, _price(recipe, price, prices, local), file, url or OPENAI_URL, concurrency, timeout)


def _price(
    recipe: JudgeRecipe, price: str | tuple[float, float] | None, prices: AnyPath | None, local: ModelFiles | None
) -> Price | None:
    """Returns the judge's price: the given one, else that of the given table, else of the package's; None if unknown.

    Raises:
        UserError: If price and table are both given, or one cannot be read.
    """
    if price is not None and prices is not None:
        raise UserError("--price and --prices both say what it costs; give one of them")
    if local:
        return Price(0.0, 0.0, "an engine in this process")
    if price is not None:
        return parse_price(price if isinstance(price, str) else ",".join(f"{dollars:.9f}" for dollars in price))
    return read_prices(Path(prices), recipe.judge) if prices is not None else find_price(recipe.judge)


def settle(estimate: JudgingEstimate, confirm: Confirm, max_cost: float | None) -> None:
    """Checks that the user agreed to what judging may cost.

    Raises:
        UserError: If it may cost something, and neither a limit nor a confirmation is given.
    """
    if callable(confirm):
        confirm(estimate)
    elif not confirm and max_cost is None and estimate.requests and estimate.dollars != 0:
        raise UserError(f"{estimate}. It may cost money: give max_cost, in dollars, or confirm=True")


@contextlib.contextmanager
def counting(progress: bool | Counter, total: int) -> Iterator[Callable[[int], None]]:
    """Yields a function that shows the number of answers so far; threads may call it."""
    if callable(progress):
        yield lambda done: progress(done, total)
        return
    from tqdm.auto import tqdm

    lock = threading.Lock()
    with tqdm(total=total, unit="answer", disable=not progress or not total) as bar:

        def told(done: int) -> None:
            with lock:
                bar.update(done - bar.n)

        yield told
