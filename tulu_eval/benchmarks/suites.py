"""Named lists of benchmarks that are measured together, such as the columns of a card.

A third-party package adds one through the entry point group ``tulu_eval.suites``: the entry's name is the name for
``tulu-eval run``, its value a :class:`BenchmarkSuite`.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """A benchmark of a suite.

    Attributes:
        protocol: ``None`` for the benchmark's default.
        limit: Number of items, the protocol's first; ``None`` for all.
    """

    benchmark: str
    protocol: str | None = None
    limit: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class BenchmarkSuite:
    """Benchmarks in the order in which they are measured and shown.

    Attributes:
        summary: One line for people.
    """

    summary: str
    members: tuple[Member, ...]


TULU_2_5 = BenchmarkSuite(
    "the columns of the Llama-3 cards of the Tulu suite; 'judge' adds those that a judge labels",
    (
        Member("mmlu", "card-5-shot"),
        Member("gsm8k", "card-200"),
        Member("bbh", "cot"),
        Member("tydiqa", "card-512"),
        Member("humaneval", "card-pass10"),
        Member("truthfulqa"),
        Member("ifeval", "card-541"),
        Member("xstest"),
        Member("alpaca-eval"),
    ),
)

QUICK = 200
"""Items per benchmark of the suite for smoke tests; they are the first ones, so no number of it stands for a benchmark."""

TULU_2_5_QUICK = BenchmarkSuite(
    f"the first {QUICK} items of each benchmark of tulu-2.5, to see that everything runs",
    tuple(dataclasses.replace(member, limit=QUICK) for member in TULU_2_5.members),
)
