"""Shared parts of the functions that ask a judge: the judge and its settings, the consent to the costs, and the progress."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypedDict

from tulu_eval.api.models import load_suite
from tulu_eval.api.paths import AnyPath
from tulu_eval.benchmarks.labelled import LabelledBenchmark
from tulu_eval.endpoint.url import OPENAI_URL, key_for, parse_base_url
from tulu_eval.errors import UserError
from tulu_eval.judging.budget import Budget, JudgingEstimate, Price, find_price, parse_price, read_prices
from tulu_eval.judging.cache import Cache
from tulu_eval.judging.endpoint_judge import KEY_VARIABLE, HttpJudge
from tulu_eval.judging.judge import Endpoint, JudgeJob
from tulu_eval.judging.judge_recipe import JudgeRecipe, Method, load_recipe
from tulu_eval.judging.label_answers import label_recipe
from tulu_eval.models import resolve
from tulu_eval.models.base import ModelFiles
from tulu_eval.runs import judge as judge_runs
from tulu_eval.runs import local_judge

Confirm = bool | Callable[[JudgingEstimate], object]
"""Whether judging may cost the estimate; or a function that gets the estimate first and raises to stop."""

Counter = Callable[[int, int], None]
"""A function that gets the number of answers so far and the number of all; threads call it."""


class AskingOptions(TypedDict, total=False):
    """Options for asking a judge; :func:`tulu_eval.judge` describes each."""

    url: str | None
    vllm: str | None
    method: Method
    max_cost: float | None
    price: str | tuple[float, float] | None
    prices: AnyPath | None
    cache: AnyPath | None
    concurrency: int
    timeout: float


@dataclasses.dataclass(frozen=True, slots=True)
class JudgingPlan:
    """What judging would do.

    Attributes:
        estimate: Requests, tokens and dollars.
        flags: Oddities of the outputs, one line each.
        prompts: The judge's first three requests as text.
    """

    estimate: JudgingEstimate
    flags: tuple[str, ...]
    prompts: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Asking:
    """A judge and the settings for asking it.

    Attributes:
        local: The judge's files if it is a model in this process; ``None`` for a server.
        timeout: Seconds for one answer.
    """

    recipe: JudgeRecipe
    local: ModelFiles | None
    budget: Budget
    cache: Path
    url: str
    concurrency: int
    timeout: float

    @contextlib.contextmanager
    def job(self, *, read_only: bool) -> Iterator[JudgeJob]:
        """Yields the job of the judge, whose cache is open until the end.

        Raises:
            UserError: If the cache or the URL cannot be used.
        """
        with Cache(self.cache, read_only) as cached:
            where = f"vllm in process: {self.recipe.judge}" if self.local else str(parse_base_url(self.url, "the judge"))
            yield JudgeJob(self.recipe, cached, self.budget, where)

    @contextlib.contextmanager
    def endpoint(self, *, needed: bool) -> Iterator[Endpoint]:
        """Yields the endpoint; unless ``needed``, nothing connects to the server and no engine starts."""
        if self.local and needed:
            with local_judge.local_judge(self.local) as engine:
                yield engine
            return
        key = key_for(parse_base_url(self.url, "the judge"), os.environ, KEY_VARIABLE) if needed else ""
        judge = HttpJudge(self.url, key, self.concurrency, self.timeout)
        if needed:
            judge.check()
        yield judge


def asking_of(
    judge: str,
    *,
    labelled: LabelledBenchmark | None = None,
    url: str | None = None,
    vllm: str | None = None,
    method: Method = "logprobs",
    max_cost: float | None = None,
    price: str | tuple[float, float] | None = None,
    prices: AnyPath | None = None,
    cache: AnyPath | None = None,
    concurrency: int = 8,
    timeout: float = 120.0,
) -> Asking:
    """Returns the chosen judge with the settings for asking it; ``labelled`` is a benchmark whose own question it gets.

    Raises:
        UserError: If the arguments name no judge or two, the model does not exist, the price cannot be read, or there is
            ``max_cost`` and no price.
    """
    if vllm and url:
        raise UserError("--judge-url and --judge-vllm are two judges; give one of them")
    if not vllm and not judge:
        raise UserError("who judges? --judge NAME, with --judge-url unless it is OpenAI's, or --judge-vllm MODEL")
    local = resolve.resolve(vllm, load_suite())[0] if vllm else None
    name = judge or (local_judge.judge_name(local) if local else "")
    recipe = load_recipe(name, method) if labelled is None else label_recipe(labelled, name)
    file = judge_runs.cache_of(recipe) if cache is None else Path(cache)
    budget = Budget(_price(recipe, price, prices, local), max_cost, recipe.judge)
    return Asking(recipe, local, budget, file, url or OPENAI_URL, concurrency, timeout)


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
    """Raises UserError if judging may cost something, and neither a limit nor a confirmation is given."""
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
