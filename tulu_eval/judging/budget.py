"""The cost of judging: an estimate before, a count during, and a stop before a limit is exceeded.

The budget reserves an upper bound for every request in flight (a byte-level tokenizer makes at most one token per byte), and
settles it with the usage that the endpoint reports. An endpoint may count more than that, e.g. a system prompt of its own: what
the first request cost is known before the second is sent, and all later requests reserve the largest excess so far as well. A
request that was sent and never answered may be billed: it counts in full against the limit, and is shown separately.
"""

from __future__ import annotations

import dataclasses
import re
import threading
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from tulu_eval import files
from tulu_eval.errors import DataError, UserError, counted
from tulu_eval.judging.judge_recipe import Question

LIMIT = 1_000_000
"""Largest size of a price table in bytes."""

PRICES_FILE = Path(__file__).with_name("prices.toml")

CHARACTERS_PER_TOKEN = 4.8
"""Characters of all turns of a judge request per prompt token. The 2407 stored judgments by gpt-4-1106-preview of alpaca-7b,
claude-2 and gpt-3.5-turbo-1106 report 4.79, 4.79 and 4.82."""

TOKENS_PER_TURN = 8
"""Upper bound of the tokens that a chat format adds around a turn (OpenAI's adds 3 or 4)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens.

    Attributes:
        output: Price of answer tokens, including reasoning.
        source: Source of the price, with its date.
    """

    input: float
    output: float
    source: str

    def dollars(self, prompt_tokens: int, answer_tokens: int) -> float:
        """Returns the price of one request in dollars."""
        return (prompt_tokens * self.input + answer_tokens * self.output) / 1e6


TokenCount = Annotated[int, Meta(ge=0, le=1 << 53)]


class JudgeUsage(files.Record, frozen=True):
    """Tokens of one request, as the endpoint counted them.

    Attributes:
        answer_tokens: Tokens of the answer, including reasoning.
    """

    prompt_tokens: TokenCount
    answer_tokens: TokenCount


@dataclasses.dataclass(frozen=True, slots=True)
class JudgingEstimate:
    """The estimated cost of judging before the first call.

    Attributes:
        requests: Questions without an answer in the cache.
        prompt_tokens: Estimate from the number of characters.
        answer_tokens: Upper bound: one per request with logprobs, the token limit per request with a text verdict.
        dollars: Estimated cost; ``None`` if the price is unknown.
    """

    requests: int
    prompt_tokens: int
    answer_tokens: int
    dollars: float | None
    price: Price | None

    def __str__(self) -> str:
        money = "at an unknown price (give --price IN,OUT)" if self.dollars is None else f"about ${self.dollars:.2f}"
        source = f" ({self.price.source})" if self.price else ""
        return (
            f"{counted(self.requests, 'request')}, about {self.prompt_tokens:,} prompt tokens and at most "
            f"{counted(self.answer_tokens, 'answer token')}: {money}{source}"
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Spent:
    """The cost of judging so far.

    Attributes:
        requests: Requests sent, including retries.
        prompt_tokens: Count of the endpoint.
        answer_tokens: Count of the endpoint, including reasoning.
        dollars: Cost of the counted tokens; ``None`` if the price is unknown.
        unconfirmed: Requests for which the endpoint reported no tokens, e.g. unanswered ones; they may be billed.
        unconfirmed_dollars: Upper bound of the cost of unconfirmed requests.
    """

    requests: int
    prompt_tokens: int
    answer_tokens: int
    dollars: float | None
    unconfirmed: int
    unconfirmed_dollars: float


def find_price(judge: str) -> Price | None:
    """Returns the list price of a judge, ``None`` if the table has none."""
    table = tomllib.loads(PRICES_FILE.read_text(encoding="utf-8"))
    models = table["models"]
    entry = models.get(judge) or models.get(re.sub(r"-\d{4}-\d{2}-\d{2}$", "", judge))
    return Price(entry["input"], entry["output"], f"list price of {table['date']}") if entry else None


def parse_price(text: str) -> Price:
    """Returns the price from ``IN,OUT`` in dollars per million tokens.

    Raises:
        UserError: If the text is not two numbers of 0 or more.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*,\s*(\d+(?:\.\d*)?)\s*", text)
    if found is None:
        raise UserError(f"price {text!r} is not IN,OUT in dollars per million tokens, e.g. 2.5,10")
    return Price(float(found[1]), float(found[2]), "given by --price")


def read_prices(path: Path, judge: str) -> Price | None:
    """Returns a judge's price from a table in the form of ``prices.toml``, ``None`` if the table has none.

    Raises:
        DataError: If the file is not such a table.
    """
    table = files.parse_toml(files.read_text(path, LIMIT), path)
    try:
        date, entry = table["date"], table["models"].get(judge)
        return Price(float(entry["input"]), float(entry["output"]), f"{path.name} of {date}") if entry else None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(path, "is not a price table: date, [models], NAME = { input = DOLLARS, output = DOLLARS }") from error


def check_limit(price: Price | None, max_cost: float, name: str) -> Price:
    """Returns the price; raises UserError if it is not known, or the limit is below 0 dollars."""
    if price is None:
        raise UserError(f"--max-cost needs a price, and the table has none for {name}: give --price IN,OUT")
    if not max_cost >= 0:
        raise UserError(f"--max-cost {max_cost} is not 0 or more dollars")
    return price


def answer_limit(question: Question) -> int:
    """Returns the largest number of tokens of a question's answer; 0 if the question sets no limit."""
    return int(question.parameters.get("max_tokens") or question.parameters.get("max_completion_tokens") or 0)


def prompt_bound(question: Question) -> int:
    """Returns an upper bound of a question's prompt tokens: its bytes, and :data:`TOKENS_PER_TURN` around each turn."""
    turns = question.messages
    return sum(len(turn.content.encode("utf-8", "surrogatepass")) for turn in turns) + TOKENS_PER_TURN * (len(turns) + 1)


def estimate(questions: Iterable[Question], price: Price | None) -> JudgingEstimate:
    """Returns the estimated cost of questions; the tokens come from characters, within about 1 % on the published record."""
    asked = list({question.key: question for question in questions}.values())
    characters = sum(len(turn.content) for question in asked for turn in question.messages)
    prompt, answer = round(characters / CHARACTERS_PER_TOKEN), sum(answer_limit(question) for question in asked)
    return JudgingEstimate(len(asked), prompt, answer, price.dollars(prompt, answer) if price else None, price)


class Budget:
    """Counts the cost and holds back requests that could exceed the limit. Thread-safe.

    Args:
        price: Price of the judge; ``None`` counts tokens only and limits nothing.
        max_cost: Limit for this invocation in dollars; ``None`` for no limit.
        judge: Name of the judge, for messages.

    Raises:
        UserError: If there is a limit without a price, or the limit is below 0.
    """

    def __init__(self, price: Price | None = None, max_cost: float | None = None, judge: str = "this judge") -> None:
        if max_cost is not None:
            check_limit(price, max_cost, judge)
        self.price = price
        self._max_cost = max_cost
        self._changed = threading.Condition()
        self._in_flight = 0
        self._settled = False
        self._reserved = 0.0
        self._excess = 0.0
        self._dollars = 0.0
        self._unconfirmed_dollars = 0.0
        self._counts = {"requests": 0, "prompt_tokens": 0, "answer_tokens": 0, "unconfirmed": 0}
        self.stopped = False

    def _bound(self, question: Question) -> float:
        return self.price.dollars(prompt_bound(question), answer_limit(question)) if self.price else 0.0

    def reserve(self, question: Question) -> bool:
        """Reserves the largest possible cost of a request; returns False if the request could exceed the limit.

        It waits for requests in flight if these may free enough of the limit, and for the end of the first one.
        """
        bound = self._bound(question)
        with self._changed:
            while self._max_cost is not None and not self.stopped:
                known = self._settled or not self._in_flight or not bound
                if known and self._could_be_spent() + bound + self._excess <= self._max_cost:
                    break
                if self._in_flight == 0:
                    self.stopped = True
                else:
                    self._changed.wait()
            if self.stopped:
                self._changed.notify_all()
                return False
            self._in_flight += 1
            self._reserved += bound
            self._counts["requests"] += 1
            return True

    def _could_be_spent(self) -> float:
        return self._dollars + self._unconfirmed_dollars + self._reserved + self._in_flight * self._excess

    def settle(self, question: Question, usage: JudgeUsage | None, perhaps_billed: bool = False) -> None:
        """Releases the cost that :meth:`reserve` reserved for a question, and counts its real cost.

        ``usage`` is the endpoint's report, ``None`` if there was none; ``perhaps_billed`` says whether such a request may be
        billed.
        """
        bound = self._bound(question)
        with self._changed:
            self._in_flight -= 1
            self._settled = True
            self._reserved = max(0.0, self._reserved - bound) if self._in_flight else 0.0
            if usage is not None:
                self._counts["prompt_tokens"] += usage.prompt_tokens
                self._counts["answer_tokens"] += usage.answer_tokens
                cost = self.price.dollars(usage.prompt_tokens, usage.answer_tokens) if self.price else 0.0
                self._dollars += cost
                self._excess = max(self._excess, cost - bound)
            elif perhaps_billed:
                self._counts["unconfirmed"] += 1
                self._unconfirmed_dollars += bound + self._excess
            self._changed.notify_all()

    def spent(self) -> Spent:
        """Returns the cost so far."""
        with self._changed:
            return Spent(
                requests=self._counts["requests"],
                prompt_tokens=self._counts["prompt_tokens"],
                answer_tokens=self._counts["answer_tokens"],
                dollars=self._dollars if self.price else None,
                unconfirmed=self._counts["unconfirmed"],
                unconfirmed_dollars=self._unconfirmed_dollars,
            )
