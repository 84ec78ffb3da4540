"""Sums: one-step word problems with small numbers, made here, for models that are trained from nothing in minutes.

One raw item::

    {"question": "Anna has 12 apples and buys 3 more. How many apples does Anna have?", "target": "15"}

The question alone is the user's turn; GSM8K's scorers grade the answer. All questions are known: 4 wordings, 12 names, 50
pairs of numbers. The 500 that measure are drawn once; the others are the training split. So a question that measures is new,
while each of its parts, and the same numbers in another wording or with another name, are in the training split.

``four-shot`` asks the first 200 behind four worked examples as turns, one of each wording, for a model that has read other
things than these sums: its answers are short, in the form of the examples, and neither all right nor all wrong.
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
from tulu_eval.records import Decoding, Grade, Turn

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

EXAMPLES = (
    ("Mia has 6 apples and buys 2 more. How many apples does Mia have?", "6 + 2 = 8. So the answer is 8."),
    (
        "There are 22 birds in Noah's garden, and 7 birds join them. How many birds are there?",
        "22 + 7 = 29. So the answer is 29.",
    ),
    ("Olga has 25 coins and loses 6 of them. How many coins are left?", "25 - 6 = 19. So the answer is 19."),
    ("Paul bakes 9 cakes, and friends eat 4. How many cakes remain?", "9 - 4 = 5. So the answer is 5."),
)
"""Questions and answers of ``four-shot``; names and numbers are none of those that measure."""

EXAMPLES_TEXT = "".join(f"Question: {asked}\nAnswer: {answer}\n\n" for asked, answer in EXAMPLES)
"""The examples as they precede every question in the form for base models."""

FOUR_SHOT = Protocol(
    name="four-shot",
    summary="the first 200 of the 500 sums, 4 worked examples as turns",
    n=200,
    decoding=DECODING,
    plain_decoding=Decoding(max_new_tokens=48, stop=("\n",)),
    metric="exact_match",
    prompt_id=hashlib.sha256(EXAMPLES_TEXT.encode()).hexdigest()[:8],
    covers=("four-shot",),
)


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
            ),
            FOUR_SHOT.name: FOUR_SHOT,
        }
    )

    def under(self, protocol: str) -> Benchmark:
        """Returns the benchmark with a protocol's prompts: itself, but for ``four-shot``."""
        return FourShotSums() if protocol == FOUR_SHOT.name else self

    def load(self, protocol: Protocol, data: Path | None) -> list[Item]:
        """Returns the protocol's items in the order in which they were drawn."""
        if data is not None:
            raise DataError("--data", "sums makes its items itself; leave it out")
        return _drawn()[: protocol.n]

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


class FourShotSums(Sums):
    """The protocol ``four-shot``: the same questions behind :data:`EXAMPLES`."""

    protocols: ClassVar[Mapping[str, Protocol]] = MappingProxyType({FOUR_SHOT.name: FOUR_SHOT})

    def render(self, item: Item) -> Prompt:
        """Returns the examples as turns and the question; a base model gets them as text."""
        earlier = [turn for asked, answer in EXAMPLES for turn in (Turn("user", asked), Turn("assistant", answer))]
        plain = f"{self.constant_prompt()}Question: {item.question}\nAnswer:"
        return Prompt(user=item.question, prefill="", plain=plain, earlier=tuple(earlier))

    def constant_prompt(self) -> str:
        """Returns the examples in the form for base models."""
        return EXAMPLES_TEXT


@functools.cache
def _drawn() -> list[Item]:
    """Returns all items in a random order that never changes."""
    every = [
        Item(f"{wording}-{name}-{a}-{b}", text.format(name=name, a=a, b=b), str(a + sign * b))
        for (wording, (sign, text)), name, a, b in itertools.product(enumerate(WORDINGS), NAMES, LARGER, SMALLER)
    ]
    return random.Random(SEED).sample(every, len(every))  # noqa: S311 - nothing secret
