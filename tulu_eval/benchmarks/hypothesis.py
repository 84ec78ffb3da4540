"""What a number may depend on, as data: one setting changed to one other value, with the source where that happened.

A benchmark lists its hypotheses (:meth:`tulu_eval.benchmarks.base.Benchmark.hypotheses`); ``tulu-eval explain`` tries them. A
change is free where samples that are there show its effect: another scorer, an earlier end. The others are paid: they need
answers to other prompts, or by another engine. Free changes are also tried on the samples of each paid one.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Literal

from tulu_eval.benchmarks.base import Item, Prompt
from tulu_eval.records import Decoding, Grade, Status

PLUS = "+"
"""Between the names of a protocol and of the hypotheses that change it: ``card-200+no-template``."""

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,60}")

Writing = Literal["plain", "tulu", "no-bos", "more-bos"]
"""How prompts are written instead: without a template, in the Tulu template, without a beginning-of-sequence token, or with one
more than there is."""


@dataclasses.dataclass(frozen=True, slots=True)
class OtherScorer:
    """Another scorer: ``grade`` takes the right answer and a text. Free."""

    scorer: str
    grade: Callable[[str, str], Grade]


@dataclasses.dataclass(frozen=True, slots=True)
class OtherDecoding:
    """Other settings of decoding; ``None`` leaves a setting as it is.

    It is free where greedy answers only end earlier: at fewer tokens, or at stop strings besides the recipe's own.

    Attributes:
        stop: All stop strings; the recipe's own ones that are not among them are taken away.
    """

    max_new_tokens: int | None = None
    stop: tuple[str, ...] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None

    def of(self, decoding: Decoding) -> Decoding:
        """Returns a decoding with these settings."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return dataclasses.replace(decoding, **{name: value for name, value in fields.items() if value is not None})

    def only_ends_earlier(self, decoding: Decoding) -> bool:
        """Whether the answers under this change are beginnings of those under ``decoding``."""
        other = self.of(decoding)
        drawn = (other.temperature, other.top_p, other.top_k) != (decoding.temperature, decoding.top_p, decoding.top_k)
        return not drawn and other.max_new_tokens <= decoding.max_new_tokens and set(other.stop) >= set(decoding.stop)


@dataclasses.dataclass(frozen=True, slots=True)
class OtherItems:
    """Other items: free where the samples hold them; tried only for a bare number, whose items nobody knows.

    Attributes:
        choose: Takes the ids of all items in the protocol's order and a number n; returns the n ids that such a run
            has, ``None`` if there is no such run of n items.
    """

    choose: Callable[[Sequence[str], int], Sequence[str] | None]


@dataclasses.dataclass(frozen=True, slots=True)
class Shortest:
    """Only the shortest answers, as a run that was stopped has them: they finish first. Free; only for a bare number."""


@dataclasses.dataclass(frozen=True, slots=True)
class OtherCount:
    """Samples of some classes counted otherwise: all as wrong, or left out of the number. Free."""

    statuses: tuple[Status, ...]
    how: Literal["wrong", "left out"]


@dataclasses.dataclass(frozen=True, slots=True)
class Uncut:
    """A block of reasoning left in the answer that is graded; of use only where a protocol cuts it. Free."""


@dataclasses.dataclass(frozen=True, slots=True)
class OtherPrompt:
    """Other prompts: ``rewrite`` takes the recipe's own prompt and its item. Paid."""

    rewrite: Callable[[Prompt, Item], Prompt]


@dataclasses.dataclass(frozen=True, slots=True)
class OtherWriting:
    """The same prompts in another form of writing. Paid."""

    how: Writing


@dataclasses.dataclass(frozen=True, slots=True)
class OtherEngine:
    """Another engine; an empty field leaves it as it is. Paid, and possible only where this machine has that engine."""

    dtype: str = ""
    backend: str = ""
    quantization: str = ""


Change = OtherScorer | OtherDecoding | OtherItems | Shortest | OtherCount | Uncut | OtherPrompt | OtherWriting | OtherEngine


@dataclasses.dataclass(frozen=True, slots=True)
class Hypothesis:
    """One setting that may have been another one.

    Attributes:
        name: Its name in that of a varied protocol (``card-200+no-template``): lower-case letters, digits, dots and hyphens.
        setting: The setting in words, e.g. ``stop strings``.
        to: Its other value in words.
        source: Thread or code where that happened.
        usual: Its value in the recipe in words; empty where the recipe's fields say it.
        weight: How often it was the cause where people asked, relative to others; a part of the order of trying.
    """

    name: str
    setting: str
    to: str
    source: str
    change: Change
    usual: str = ""
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"a hypothesis is named by a-z, 0-9, dots and hyphens, at most 61 of them, not {self.name!r}")
        if not self.weight > 0:
            raise ValueError(f"the weight of {self.name} must be above 0, not {self.weight}")
