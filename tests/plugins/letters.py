"""A plug-in of the kind ``choose`` as somebody else would write it: a letter after five examples of its subject."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Literal

from tulu_eval import Grade, Item, LikelihoodBenchmark, Prompt, Protocol
from tulu_eval.benchmarks.base import Aggregate, read_rows
from tulu_eval.benchmarks.likelihood import NO_DECODING


class Letters(LikelihoodBenchmark):
    """Multiple choice; the value is a mean over subjects."""

    name: ClassVar[str] = "letters"
    kind: ClassVar[Literal["choose", "score"]] = "choose"
    scorers: ClassVar[tuple[str, ...]] = ("letter", "by-subject")
    aggregates: ClassVar[Mapping[str, Aggregate]] = MappingProxyType({"by-subject": "macro"})
    protocols: ClassVar[Mapping[str, Protocol]] = MappingProxyType(
        {"full": Protocol("full", "all questions", 0, NO_DECODING, NO_DECODING, "accuracy", "e3b0c442", ("full",))}
    )

    def load(self, protocol: Protocol, data: Path | None) -> list[Item]:
        assert data is not None
        rows = read_rows(data, ("id", "question", "answer", "subject"))
        return [Item(row.text("id"), row.text("question"), row.text("answer"), row.text("subject")) for row in rows]

    def render(self, item: Item) -> Prompt:
        shots = "".join(f"{item.group} question {n}\nAnswer: {'ABCD'[n % 4]}\n\n" for n in range(5))
        asked = f"{shots}{item.question}\nAnswer:"
        return Prompt(user=asked, prefill="The answer is (", plain=f"{asked} (")

    def continuations(self, item: Item) -> tuple[str, ...]:
        return "A", "B", "C", "D"

    def grade(self, target: str, text: str) -> tuple[Grade, ...]:
        return tuple(Grade(scorer, text.strip(), bool(text), float(text.strip() == target)) for scorer in self.scorers)
