"""A plug-in of the kind ``generate`` as somebody else would write it: four samples per item, reasoning cut, pass@k."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from tulu_eval import Benchmark, Decoding, Grade, Item, Prompt, Protocol
from tulu_eval.benchmarks.base import Aggregate, PassAt, Reasoning, read_rows

HOT = Decoding(max_new_tokens=6, temperature=0.8, top_p=0.95)
THINK = Reasoning("<think>", "</think>")
COMMON = (0, HOT, HOT, "pass", "e3b0c442")


class Dice(Benchmark):
    """Questions with an even or odd answer."""

    name: ClassVar[str] = "dice"
    scorers: ClassVar[tuple[str, ...]] = ("pass@1", "pass@3")
    aggregates: ClassVar[Mapping[str, Aggregate]] = MappingProxyType({"pass@1": PassAt(1), "pass@3": PassAt(3)})
    protocols: ClassVar[Mapping[str, Protocol]] = MappingProxyType(
        {
            "four": Protocol("four", "four samples", *COMMON, covers=("four",), samples=4),
            "thinking": Protocol("thinking", "reasoning is cut", *COMMON, covers=("thinking",), samples=4, reasoning=THINK),
        }
    )

    def load(self, protocol: Protocol, data: Path | None) -> list[Item]:
        assert data is not None
        rows = read_rows(data, ("id", "question", "answer"))
        return [Item(row.text("id"), row.text("question"), row.text("answer")) for row in rows]

    def render(self, item: Item) -> Prompt:
        return Prompt(user=item.question, prefill="", plain=item.question)

    def grade(self, target: str, text: str) -> tuple[Grade, ...]:
        answer = "even" if len(text.strip()) % 2 == 0 else "odd"
        return tuple(Grade(scorer, answer, bool(text.strip()), float(answer == target)) for scorer in self.scorers)
