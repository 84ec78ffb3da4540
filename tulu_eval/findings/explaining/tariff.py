"""What samples cost that a server generates, in dollars, so that a search ends before it would cost more than it may."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from tulu_eval.errors import UserError
from tulu_eval.findings.explaining.base_and_goal import Base
from tulu_eval.judging.budget import TOKENS_PER_TURN, Price, check_limit, find_price, parse_price
from tulu_eval.records import Request
from tulu_eval.runs.run_plan import Plan
from tulu_eval.store.sample_line import Sample


class Tariff(NamedTuple):
    """A server's price, and the dollars that may be spent."""

    price: Price
    most: float

    def bound(self, plan: Plan, items: Collection[str]) -> float:
        """Returns the most that the samples of some items can cost; 0 on an engine of this machine."""
        if plan.backend.local:
            return 0.0
        limit = plan.decoding.max_new_tokens
        return math.fsum(self.price.dollars(prompt, limit) for _, prompt in _prompts(plan, items))

    def cost(self, plan: Plan, samples: Mapping[str, Sample], made: int) -> float:
        """Returns the most that ``made`` of the samples cost; an answer whose tokens are not known counts with its limit."""
        if plan.backend.local:
            return 0.0
        limit = plan.decoding.max_new_tokens
        each = [
            self.price.dollars(prompt, len(samples[item].completion.token_ids) or limit)
            for item, prompt in _prompts(plan, samples)
        ]
        return math.fsum(sorted(each, reverse=True)[:made])


def _prompts(plan: Plan, items: Collection[str]) -> Iterator[tuple[str, int]]:
    """Yields some items with the tokens of their prompts; `explain` asks for generated text alone."""
    for one in plan.planned:
        if one.item.id in items and isinstance(one.request, Request):
            yield one.item.id, prompt_tokens(one.request)


def prompt_tokens(request: Request) -> int:
    """Returns the tokens of a prompt, or the most that they can be where the server makes them of its text."""
    turns = max(len(request.turns), 1)
    return len(request.token_ids) or len(request.text.encode("utf-8", "surrogatepass")) + TOKENS_PER_TURN * (turns + 1)


def tariff_of(base: Base, price: str | None, max_cost: float | None) -> Tariff | None:
    """Returns the tariff of a base's server; ``None`` without a limit, or where nothing can be generated.

    Raises:
        UserError: If the engine has no price, the price of a server is not known, or one of the two values cannot be.
    """
    if max_cost is None:
        if price is not None:
            raise UserError("--price says what --max-cost counts; give both")
        return None
    if base.plan is None:
        return None
    if base.plan.backend.local:
        name = base.plan.backend.name
        raise UserError(f"--max-cost: {name} runs here and has no price; --max-items and --max-seconds limit it")
    served = base.plan.order.settings.served
    name = served.name if served is not None and served.name else base.plan.model.name
    known = find_price(name) if price is None else parse_price(price)
    return Tariff(check_limit(known, max_cost, name), max_cost)
