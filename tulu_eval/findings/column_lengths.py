"""How long prompts and answers of the suite's columns are, for plans of models and data that are not on this machine.

Characters of prompts were counted in the rendered prompts of each protocol; what the prompts of a subject, a task or a protocol
have in common at their start counts once, because engines keep it. Answers have a usual and a long length; the source of each
says what it is.
"""

from __future__ import annotations

import dataclasses
from types import MappingProxyType
from typing import NamedTuple

_SMALL = "the mean of SmolLM2-135M-Instruct's answers in results/, which ramble"


class Length(NamedTuple):
    """A length and its source; in tokens per answer, or in characters of all prompts."""

    value: float
    source: str


@dataclasses.dataclass(frozen=True, slots=True)
class ColumnLengths:
    """The lengths of a protocol.

    Attributes:
        items: Number of items of the protocol.
        prompts: Characters of all prompts, common starts once; given continuations count too.
        usual: Tokens of a usual answer.
        long: Tokens of a long answer.
    """

    items: int
    prompts: Length
    usual: Length
    long: Length


def _rendered(characters: int) -> Length:
    return Length(characters, "counted in the rendered prompts, common starts once")


_NONE = Length(0, "nothing is generated")

LENGTHS = MappingProxyType(
    {
        ("mmlu", "card-5-shot"): ColumnLengths(14042, _rendered(6_668_755), _NONE, _NONE),
        ("gsm8k", "card-200"): ColumnLengths(
            200, _rendered(51_246), Length(110, "about the mean of GSM8K's solutions"), Length(304, _SMALL)
        ),
        ("bbh", "cot"): ColumnLengths(
            6511,
            _rendered(1_954_532),
            Length(184, "the mean of the 81 exemplars' answers, 568 characters"),
            Length(386, _SMALL),
        ),
        ("tydiqa", "card-512"): ColumnLengths(
            900,
            Length(3_340_000, "assumed: item and exemplar have passages at their limit of 512 tokens, and 176 tokens more"),
            Length(15, "assumed: a short span of the passage"),
            Length(50, "the protocol's limit"),
        ),
        ("humaneval", "card-pass10"): ColumnLengths(
            164,
            _rendered(73_898),
            Length(59, "the mean of the 164 reference solutions, 181 characters"),
            Length(512, "the protocol's limit"),
        ),
        ("truthfulqa", "mc"): ColumnLengths(817, _rendered(362_158), _NONE, _NONE),
        ("ifeval", "card-541"): ColumnLengths(
            541,
            _rendered(114_015),
            Length(387, "the mean of GPT-4's 541 answers of November 2023, 1194 characters"),
            Length(720, _SMALL),
        ),
        ("xstest", "card-450"): ColumnLengths(
            450,
            _rendered(19_902),
            Length(144, "the mean of GPT-4's 450 published answers, 446 characters"),
            Length(1063, _SMALL),
        ),
        ("alpaca-eval", "alpacaeval2-805"): ColumnLengths(
            805,
            _rendered(132_764),
            Length(459, "the shortest published mean length of the suite's models, 1418 characters"),
            Length(538, "the longest published mean length of the suite's models, 1663 characters"),
        ),
    }
)
"""The lengths of a column, by the names of its benchmark and protocol."""
