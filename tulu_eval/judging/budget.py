"""What judging costs: estimated before, counted while, and stopped before a limit is crossed.

The guard sets aside an upper bound for every request in flight (a byte-level tokenizer makes at most one token of a byte), and
settles it with the usage that the endpoint reports. A request that was sent and never answered may have been billed: it
counts in full against the limit, and is shown apart.
"""

from __future__ import annotations

import dataclasses
import re
import threading
import tomllib
from collections.abc import Iterable
from pathlib import Path

from tulu_eval import files
from tulu_eval.errors import DataError, UserError
from tulu_eval.judging.judge_recipe import Question

LIMIT = 1_000_000
"""Bytes of the largest price table that is read."""

PRICES_FILE = Path(__file__).with_name("prices.toml")

CHARACTERS_PER_TOKEN = 4.8
"""Of judge requests: characters of all turns over the tokens that gpt-4-1106-preview's 2407 stored judgments of alpaca-7b,
claude-2 and gpt-3.5-turbo-1106 report: 4.79, 4.79 and 4.82."""

TOKENS_PER_TURN = 8
"""Upper bound of what a chat format adds around a turn (OpenAI's adds 3 or 4)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens.

    Attributes:
        input: Of the prompt.
        output: Of the answer, reasoning included.
        source: Where it is from, with its date.
    """

    input: float
    output: float
    source: str

    def dollars(self, prompt_tokens: int, answer_tokens: int) -> float:
        """Returns the price of one request."""
        return (prompt_tokens * self.input + answer_tokens * self.output) / 1e6


@dataclasses.dataclass(frozen=True, slots=True)
class JudgeUsage:
    """Tokens of one request, as the endpoint counted them.

    Attributes:
        prompt_tokens: Of the prompt.
        answer_tokens: Of the answer, reasoning included.
    """

    prompt_tokens: int
    answer_tokens: int


@dataclasses.dataclass(frozen=True, slots=True)
class JudgingEstimate:
    """What judging will cost, before the first call.

    Attributes:
        requests: Questions without an answer in the cache.
        prompt_tokens: Estimated from characters.
        answer_tokens: One a request with logprobs; for a text verdict the most it may spend.
        dollars: None where the price is not known.
        price: What the dollars come from.
    """

    requests: int
    prompt_tokens: int
    answer_tokens: int
    dollars: float | None
    price: Price | None

    def __str__(self) -> str:
        money = "at a price that is not known (give --price IN,OUT)" if self.dollars is None else f"about ${self.dollars:.2f}"
        source = f" ({self.price.source})" if self.price else ""
        return (
            f"{self.requests} requests, about {self.prompt_tokens:,} prompt tokens and at most {self.answer_tokens:,} answer "
            f"tokens: {money}{source}"
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Spent:
    """What judging has cost.

    Attributes:
        requests: Sent, retries included.
        prompt_tokens: As the endpoint counted.
        answer_tokens: As the endpoint counted.
        dollars: Of the tokens counted; None where the price is not known.
        unconfirmed: Requests without a report of their tokens, such as those never answered: perhaps billed.
        unconfirmed_dollars: At most this much for them.
    """

    requests: int
    prompt_tokens: int
    answer_tokens: int
    dollars: float | None
    unconfirmed: int
    unconfirmed_dollars: float


def find_price(judge: str) -> Price | None:
    """Returns the list price of a judge, or None if the table has none."""
    table = tomllib.loads(PRICES_FILE.read_text(encoding="utf-8"))
    models = table["models"]
    entry = models.get(judge) or models.get(re.sub(r"-\d{4}-\d{2}-\d{2}$", "", judge))
    return Price(entry["input"], entry["output"], f"list price of {table['date']}") if entry else None


def parse_price(text: str) -> Price:
    """Returns the price that ``IN,OUT`` says, dollars per million tokens.

    Raises:
        UserError: It is not two numbers of 0 or more.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*,\s*(\d+(?:\.\d*)?)\s*", text)
    if found is None:
        raise UserError(f"price {text!r} is not IN,OUT in dollars per million tokens, e.g. 2.5,10")
    return Price(float(found[1]), float(found[2]), "given by --price")


def read_prices(path: Path, judge: str) -> Price | None:
    """Returns a judge's price from another table of the same form as ``prices.toml``.

    Raises:
        DataError: The file cannot be read as such a table.
    """
    table = files.parse_toml(files.read_text(path, LIMIT), path)
    try:
        date, entry = table["date"], table["models"].get(judge)
        return Price(float(entry["input"]), float(entry["output"]), f"{path.name} of {date}") if entry else None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(path, "is not a price table: date, [models], NAME = { input = DOLLARS, output = DOLLARS }") from error


def answer_limit(question: Question) -> int:
    """Returns the most tokens that a question's answer may have."""
    return int(question.parameters.get("max_tokens") or question.parameters.get("max_completion_tokens") or 0)


def prompt_bound(question: Question) -> int:
    """Returns an upper bound of a question's prompt tokens: its bytes, and what surrounds the turns."""
    turns = question.messages
    return sum(len(turn.content.encode("utf-8", "surrogatepass")) for turn in turns) + TOKENS_PER_TURN * (len(turns) + 1)


def estimate(questions: Iterable[Question], price: Price | None) -> JudgingEstimate:
    """Returns what these questions will cost; tokens from characters, right to about 1 % on the published record."""
    asked = list({question.key: question for question in questions}.values())
    characters = sum(len(turn.content) for question in asked for turn in question.messages)
    prompt, answer = round(characters / CHARACTERS_PER_TOKEN), sum(answer_limit(question) for question in asked)
    return JudgingEstimate(len(asked), prompt, answer, price.dollars(prompt, answer) if price else None, price)


class Budget:
    """Counts what is spent and lets no request out that could cross the limit. Safe among threads.

    Args:
        price: Of the judge; without one nothing is limited, only tokens are counted.
        max_cost: Dollars, for this invocation.

    Raises:
        UserError: A limit without a price, or below 0.
    """

    def __init__(self, price: Price | None = None, max_cost: float | None = None) -> None:
        if max_cost is not None and price is None:
            raise UserError("--max-cost needs a price, and the table has none for this judge: give --price IN,OUT")
        if max_cost is not None and not max_cost >= 0:
            raise UserError(f"--max-cost {max_cost} is not 0 or more dollars")
        self._price = price
        self._max_cost = max_cost
        self._changed = threading.Condition()
        self._in_flight = 0
        self._reserved = 0.0
        self._dollars = 0.0
        self._unconfirmed_dollars = 0.0
        self._counts = {"requests": 0, "prompt_tokens": 0, "answer_tokens": 0, "unconfirmed": 0}
        self.stopped = False

    def _bound(self, question: Question) -> float:
        return self._price.dollars(prompt_bound(question), answer_limit(question)) if self._price else 0.0

    def reserve(self, question: Question) -> bool:
        """Sets aside the most that a request can cost, waiting for others in flight; False where the limit could be crossed."""
        bound = self._bound(question)
        with self._changed:
            while self._max_cost is not None and not self.stopped:
                if self._dollars + self._unconfirmed_dollars + self._reserved + bound <= self._max_cost:
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

    def settle(self, question: Question, usage: JudgeUsage | None, perhaps_billed: bool = False) -> None:
        """Gives back what was set aside, and counts what the request cost.

        Args:
            question: As reserved.
            usage: As reported; None where it was not.
            perhaps_billed: Whether, without a report, it may have been billed all the same.
        """
        bound = self._bound(question)
        with self._changed:
            self._in_flight -= 1
            self._reserved = max(0.0, self._reserved - bound) if self._in_flight else 0.0
            if usage is not None:
                self._counts["prompt_tokens"] += usage.prompt_tokens
                self._counts["answer_tokens"] += usage.answer_tokens
                self._dollars += self._price.dollars(usage.prompt_tokens, usage.answer_tokens) if self._price else 0.0
            elif perhaps_billed:
                self._counts["unconfirmed"] += 1
                self._unconfirmed_dollars += bound
            self._changed.notify_all()

    def spent(self) -> Spent:
        """Returns the count so far."""
        with self._changed:
            return Spent(
                requests=self._counts["requests"],
                prompt_tokens=self._counts["prompt_tokens"],
                answer_tokens=self._counts["answer_tokens"],
                dollars=self._dollars if self._price else None,
                unconfirmed=self._counts["unconfirmed"],
                unconfirmed_dollars=self._unconfirmed_dollars,
            )
