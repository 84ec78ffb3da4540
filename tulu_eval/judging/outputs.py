"""Reads a model's outputs in alpaca_eval's format, and places every row by its instruction's text.

``model_outputs.json``: a JSON list (or JSON lines, as open-instruct writes) of ``{"instruction", "output", "generator"}``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tulu_eval.benchmarks.alpaca_set import SIZE, EvalRow, position, read_rows
from tulu_eval.errors import DataError, UserError
from tulu_eval.judging.judge_recipe import Pair


@dataclasses.dataclass(frozen=True, slots=True)
class Outputs:
    """A model's outputs.

    Attributes:
        generator: Name of the model; empty if the file has none.
        by_place: Outputs by the instruction's 0-based place among the 805.
    """

    generator: str
    by_place: Mapping[int, str]


def place_of(path: Path, number: int, instruction: str, seen: dict[int, int]) -> int:
    """Returns the place of a row's instruction, and adds it to ``seen``.

    Raises:
        DataError: If the instruction is not one of the 805, or occurred in an earlier row.
    """
    place = position(instruction)
    if place is None:
        start = instruction[:50].replace("\n", " ")
        stripped = position(instruction.strip())
        why = "is one of AlpacaEval's up to white space" if stripped is not None else "is not one of AlpacaEval's 805"
        raise DataError(path, f"row {number}: the instruction {start!r}... {why} (changed or foreign)")
    if place in seen:
        raise DataError(path, f"row {number} has the same instruction as row {seen[place]}")
    seen[place] = number
    return place


def name_in(path: Path, row: Mapping[str, Any], field: str) -> str:
    """Returns the name in a row's field without white space around it; empty if there is none.

    Raises:
        DataError: If the value is not text.
    """
    value = row.get(field)
    if value is not None and not isinstance(value, str):
        raise DataError(path, f"{field!r} is {value!r:.40}, which is not a name")
    return (value or "").strip()


def one_name(path: Path, rows: Sequence[Mapping[str, Any]], field: str) -> str:
    """Returns the one name that a field has in all rows; empty if no row has one.

    Raises:
        DataError: If rows have different names, or a value is not a name.
    """
    names = {name_in(path, row, field) for row in rows}
    if len(names) > 1:
        raise DataError(path, f"has {len(names)} different values of {field!r}: {', '.join(sorted(names)[:3])}")
    return names.pop()


def read_outputs(path: Path, partial: bool = False) -> Outputs:
    """Returns the outputs of a model by their instructions' places; fewer than 805 only if ``partial``.

    Raises:
        DataError: If an instruction is missing, duplicate, changed or foreign, or the file does not have this form.
    """
    rows = read_rows(path, ("instruction", "output"))
    seen: dict[int, int] = {}
    by_place = {place_of(path, number, row["instruction"], seen): row["output"] for number, row in enumerate(rows, start=1)}
    absent = sorted(set(range(SIZE)) - set(by_place))
    if absent and not partial:
        raise DataError(
            path, f"{len(absent)} of the {SIZE} instructions are missing, the first is number {absent[0] + 1}; see --partial"
        )
    return Outputs(one_name(path, rows, "generator"), by_place)


def from_texts(texts: Mapping[str, str], generator: str) -> Outputs:
    """Returns the outputs of a run from its texts by item id, ``alpaca-<place>``.

    Raises:
        UserError: If an id does not have this form.
    """
    by_place = {}
    for item, text in texts.items():
        place = item.removeprefix("alpaca-")
        if not (item.startswith("alpaca-") and place.isdecimal() and int(place) < SIZE):
            raise UserError(f"{item!r} is not the id of an AlpacaEval item")
        by_place[int(place)] = text
    return Outputs(generator, by_place)


def make_pairs(rows: Sequence[EvalRow], outputs: Outputs) -> list[Pair]:
    """Returns one pair per output, in the data set's order."""
    return [
        Pair(f"alpaca-{place}", row.instruction, row.baseline, outputs.by_place[place])
        for place, row in enumerate(rows)
        if place in outputs.by_place
    ]
