"""Sums: one-step word problems with small numbers, made here, for models that are trained from nothing in minutes.

One raw item::

    {"question": "Anna has 12 apples and buys 3 more. How many apples does Anna have?", "target": "15"}

The question alone is the user's turn; GSM8K's scorers grade the answer. All questions are known: 4 wordings, 12 names, 50
pairs of numbers. The 500 that measure are drawn once; the others are the training split. So a question that measures is new,
while each of its parts, and the same numbers in another wording or with another name, are in the training split.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import random
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from tulu_eval.benchmarks.base import Benchmark, Item, Prompt, Protocol, read_rows
from tulu_eval.benchmarks.gsm8k_scorers import grade_last_number, grade_stated_answer
from tulu_eval.errors import DataError
from tulu_eval.records import Decoding, Grade

SEED, SIZE = 42, 500

NAMES = ("Anna", "Ben", "Clara", "David", "Emma", "Finn", "Grace", "Henry", "Iris", "Jonas", "Kate", "Leo")
LARGER, SMALLER = range(10, 20), range(1, 6)

WORDINGS = (
    (1, "{name} has {a} apples and buys {b} more. How many apples does {name} have?"),
    (1, "There are {a} birds in {name}'s garden, and {b} birds join them. How many birds are there?"),
    (-1, "{name} has {a} coins and loses {b} of them. How many coins are left?"),
    (-1, "{name} bakes {a} cakes, and friends eat {b}. How many cakes remain?"),
)
"""The sign of the second number, and the question."""

DECODING = Decoding(max_new_tokens=48)


class Sums(Benchmark):
    """500 of 2400 one-step sums; see the module's docstring for one item."""

    name: ClassVar[str] = "sums"
    scorers: ClassVar[tuple[str, ...]] = ("last-number", "stated-answer")
    protocols: ClassVar[Mapping[str, Protocol]] = MappingProxyType(
        {
            "full": Protocol(
                name="full",
                summary="500 held-out one-step sums, no exemplars",
                n=SIZE,
                decoding=DECODING,
                plain_decoding=DECODING,
                metric="exact_match",
                prompt_id=hashlib.sha256(b"").hexdigest()[:8],
                covers=("full",),
            )
        }
    )

    def load(self, protocol: Protocol, data: Path | None) -> list[Item]:
        """Returns the 500 items in the order in which they were drawn."""
        if data is not None:
            raise DataError("--data", "sums makes its items itself; leave it out")
        return _drawn()[:SIZE]

    def training_items(self, data: Path | None) -> list[Item]:
        """Returns the items that do not measure, or the rows of ``data`` with ``question`` and ``target``.

        Raises:
            DataError: If a row asks a question that measures.
        """
        if data is None:
            return _drawn()[SIZE:]
        measured = {item.question for item in _drawn()[:SIZE]}
        rows = [(row, row.text("question"), row.text("target")) for row in read_rows(data, ("question", "target"))]
        for row, question, _ in rows:
            if question in measured:
                raise row.error("is one of the questions that measure")
        return [Item(f"row-{number}", question, target) for number, (_, question, target) in enumerate(rows)]

    def render(self, item: Item) -> Prompt:
        """Returns the question; the form for base models ends in ``Answer:``."""
        return Prompt(user=item.question, prefill="", plain=f"Question: {item.question}\nAnswer:")

    def grade(self, target: str, text: str) -> tuple[Grade, ...]:
        """Returns the grades of GSM8K's two scorers."""
        return grade_last_number(target, text), grade_stated_answer(target, text)


@functools.cache
def _drawn() -> list[Item]:
    """Returns all items in a random order that never changes."""
    every = [
        Item(f"{wording}-{name}-{a}-{b}", text.format(name=name, a=a, b=b), str(a + sign * b))
        for (wording, (sign, text)), name, a, b in itertools.product(enumerate(WORDINGS), NAMES, LARGER, SMALLER)
    ]
    return random.Random(SEED).sample(every, len(every))  # noqa: S311 - nothing secret
