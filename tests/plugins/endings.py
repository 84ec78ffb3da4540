"""A plug-in of the kind ``score`` as somebody else would write it: the likeliest ending of a story, by sum and per byte."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Literal

from tulu_eval import Grade, Item, Likelihood, LikelihoodBenchmark, Prompt, Protocol
from tulu_eval.benchmarks.base import read_rows
from tulu_eval.benchmarks.likelihood import NO_DECODING


@dataclasses.dataclass(frozen=True, slots=True)
class Story(Item):
    endings: Sequence[str] = ()


class Endings(LikelihoodBenchmark):
    """Stories with several endings, of which the first is right."""

    name: ClassVar[str] = "endings"
    kind: ClassVar[Literal["choose", "score"]] = "score"
    scorers: ClassVar[tuple[str, ...]] = ("sum", "per-byte")
    protocols: ClassVar[Mapping[str, Protocol]] = MappingProxyType(
        {"full": Protocol("full", "all stories", 0, NO_DECODING, NO_DECODING, "accuracy", "e3b0c442", ("full",))}
    )

    def load(self, protocol: Protocol, data: Path | None) -> list[Item]:
        assert data is not None
        rows = read_rows(data, ("id", "question", "endings"))
        return [Story(row.text("id"), row.text("question"), "0", endings=row.text("endings").split("|")) for row in rows]

    def render(self, item: Item) -> Prompt:
        return Prompt(user=item.question, prefill="", plain=item.question)

    def continuations(self, item: Item) -> tuple[str, ...]:
        assert isinstance(item, Story)
        return tuple(item.endings)

    def grade(self, target: str, text: str) -> tuple[Grade, ...]:
        raise NotImplementedError

    def grade_likelihoods(self, target: str, likelihoods: Sequence[Likelihood]) -> tuple[Grade, ...]:
        values = {"sum": [one.total for one in likelihoods], "per-byte": [one.per_byte for one in likelihoods]}
        best = {name: str(found.index(max(found))) if found else "" for name, found in values.items()}
        return tuple(Grade(name, answer, bool(answer), float(answer == target)) for name, answer in best.items())
