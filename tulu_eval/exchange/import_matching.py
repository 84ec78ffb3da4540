"""Matches the answers in another harness's file with a benchmark's items."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence

from tulu_eval.benchmarks.base import Item
from tulu_eval.exchange.foreign_answers import ForeignAnswer

REWORDED = 0.01
"""Largest share of rows whose question may differ from that of the item at their place."""


@dataclasses.dataclass(frozen=True, slots=True)
class Matched:
    """The file's answers, matched with the benchmark's items.

    Attributes:
        answers: The first answer to each item, in the benchmark's order.
        foreign: Answers to no item.
        changed: Answers to an item whose question differs in letter case or white space, or that has another right answer or
            other choices.
        repeated: Further answers to an item.
        missing: Items without an answer.
        reworded: Answers, among the matched ones, at the place of an item whose question has other words.
    """

    answers: tuple[tuple[Item, ForeignAnswer], ...]
    foreign: tuple[ForeignAnswer, ...]
    changed: tuple[ForeignAnswer, ...]
    repeated: tuple[ForeignAnswer, ...]
    missing: tuple[Item, ...]
    reworded: tuple[ForeignAnswer, ...] = ()


def match(
    items: Sequence[Item], answers: Sequence[ForeignAnswer], choices: Callable[[Item], Sequence[str]] | None = None
) -> Matched:
    """Matches answers with items, within a group where an answer names it; of items with one question the first free one.

    ``choices`` are the texts whose likelihoods an item's grade needs; ``None`` for items that are answered by a text. White
    space around them and a full stop at their end do not count.
    """
    exact: dict[tuple[str, str], list[Item]] = {}
    loose: set[tuple[str, str]] = set()
    for item in items:
        for group in {item.group, ""}:
            exact.setdefault((group, item.question.strip()), []).append(item)
            loose.add((group, _loose(item.question)))
    found: dict[str, ForeignAnswer] = {}
    foreign: list[ForeignAnswer] = []
    changed: list[ForeignAnswer] = []
    repeated: list[ForeignAnswer] = []
    for answer in answers:
        asked = exact.get((answer.group, answer.question.strip()), [])
        fitting = [item for item in asked if _same(item, answer, choices)]
        free = next((item for item in fitting if item.id not in found), None)
        if free is not None:
            found[free.id] = answer
        elif fitting:
            repeated.append(answer)
        else:
            (changed if (answer.group, _loose(answer.question)) in loose else foreign).append(answer)
    return Matched(
        answers=tuple((item, found[item.id]) for item in items if item.id in found),
        foreign=tuple(foreign),
        changed=tuple(changed),
        repeated=tuple(repeated),
        missing=tuple(item for item in items if item.id not in found),
    )


def _same(item: Item, answer: ForeignAnswer, choices: Callable[[Item], Sequence[str]] | None) -> bool:
    """Whether an answer is to an item with this right answer, and has the likelihoods of its choices."""
    if answer.answer is not None and right_answer(answer.answer) != right_answer(item.target):
        return False
    return choices is None or set(map(_bare, choices(item))) == {_bare(one.text) for one in answer.likelihoods}


def _bare(choice: str) -> str:
    return choice.strip().removesuffix(".")


def placed(items: Sequence[Item], answers: Sequence[ForeignAnswer], matched: Matched) -> Matched:
    """Returns the match with a few answers to no item joined by their place, if all others stand at their items' places."""
    if len(answers) != len(items) or not 0 < len(matched.missing) <= REWORDED * len(items):
        return matched
    found = {item.id: answer for item, answer in matched.answers}
    reworded = []
    for item, answer in zip(items, answers, strict=True):
        if item.id not in found:
            reworded.append(answer)
        elif found[item.id] is not answer:
            return matched
    return Matched(tuple(zip(items, answers, strict=True)), (), (), (), (), tuple(reworded))


def right_answer(text: str) -> str:
    """Returns the right answer in a text without thousands commas: all text, or what follows ``####`` in a whole solution."""
    return re.sub(r"(?<=\d),(?=\d)", "", text.rpartition("####")[2].strip())


def _loose(question: str) -> str:
    return " ".join(question.split()).casefold()
