"""Finds the baseline's side in a file of output pairs by the outputs, because names in a file may be absent or wrong.

The sides of a row are known if one of its outputs is a known baseline's. If a file has no known baseline, its names must tell
which side is the baseline, and the baseline is unknown.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from tulu_eval.benchmarks.alpaca_baselines import UNKNOWN, Baseline, KnownBaseline, identify, known, output_hash
from tulu_eval.errors import DataError


@dataclasses.dataclass(frozen=True, slots=True)
class TwoOutputs:
    """One row of a file.

    Attributes:
        place: 0-based place of the instruction among the 805.
        names: ``generator_1`` and ``generator_2``; an empty text for a missing name.
    """

    place: int
    outputs: tuple[str, str]
    names: tuple[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class Sides:
    """The sides of a file's rows.

    Attributes:
        baseline: The baseline, identified by its outputs.
        exchanged: For each row, whether ``output_1`` is the model's and ``output_2`` the baseline's.
        model: The model's name; empty if the file has none, or gives the baseline's name.
        notes: Contradictions between names and outputs, one line each.
    """

    baseline: Baseline
    exchanged: tuple[bool, ...]
    model: str
    notes: tuple[str, ...]


def find_sides(path: Path, rows: Sequence[TwoOutputs]) -> Sides:
    """Returns the sides of a file's rows.

    Raises:
        DataError: If neither outputs nor names tell the sides, the file mixes baselines, or names and outputs are exchanged.
    """
    hashes = [(output_hash(row.outputs[0]), output_hash(row.outputs[1])) for row in rows]
    found = _known_baseline(path, rows, hashes)
    if found is None:
        return _named_sides(path, rows, hashes)
    told = [row for row, pair in enumerate(hashes) if pair[0] != pair[1]]  # two equal outputs tell nothing
    turned = {row for row in told if hashes[row][0] != found.outputs[rows[row].place]}
    every = bool(turned) and len(turned) == len(told)
    exchanged = tuple(row in turned or every for row in range(len(rows)))
    asked = told or range(len(rows))
    model, theirs = (
        _names(path, [rows[row] for row in asked], [exchanged[row] for row in asked], side) for side in ("model", "baseline")
    )
    name = found.baseline.name
    if model == name and theirs not in ("", name):
        raise DataError(
            path,
            f"its names or its outputs are exchanged: the outputs under the name {theirs} are those of {name}",
        )
    notes = [] if theirs in ("", name) else [f"the file says that the outputs of {name} are {theirs}'s"]
    if model == name and told:
        notes.append(f"the file says that the model is {name}, but {name} has other outputs; the model is unknown")
    return Sides(found.baseline, exchanged, "" if model == name and told else model, tuple(notes))


def _known_baseline(path: Path, rows: Sequence[TwoOutputs], hashes: Sequence[tuple[str, str]]) -> KnownBaseline | None:
    """Returns the known baseline with an output in every row: on side 1, else on side 2, else on either side.

    Returns ``None`` if there is none; raises DataError if a known baseline is in more than half of the rows but not in all.
    """

    def count(one: KnownBaseline, *sides: int) -> int:
        return sum(one.outputs[row.place] in [pair[side] for side in sides] for row, pair in zip(rows, hashes, strict=True))

    for sides in ((0,), (1,), (0, 1)):
        for one in known():
            if count(one, *sides) == len(rows):
                return one
    for one in known():
        if (there := count(one, 0, 1)) > len(rows) / 2:
            places = [one.outputs[row.place] not in pair for row, pair in zip(rows, hashes, strict=True)]
            raise DataError(
                path,
                f"has outputs of the baseline {one.baseline.name} in {there} of {len(rows)} rows and none in row "
                f"{places.index(True) + 1}; check whether somebody changed an output",
            )
    return None


def _named_sides(path: Path, rows: Sequence[TwoOutputs], hashes: Sequence[tuple[str, str]]) -> Sides:
    """Returns the sides of a file without a known baseline: output_1 is the baseline's, as the format says.

    Raises DataError if the names do not name two models.
    """
    straight = (False,) * len(rows)
    model, theirs = (_names(path, rows, straight, side) for side in ("model", "baseline"))
    if not model or not theirs or model == theirs:
        raise DataError(
            path,
            "the baseline is unknown: neither output_1 nor output_2 are the outputs of a known baseline, and "
            f"generator_1 {theirs!r} and generator_2 {model!r} do not name two models",
        )
    baseline = identify({row.place: pair[0] for row, pair in zip(rows, hashes, strict=True)})
    odd = any(one.baseline.name == theirs for one in known())
    notes = [f"the file says that the baseline is {theirs}, which has other outputs"] if odd else []
    return Sides(dataclasses.replace(baseline, name=UNKNOWN), straight, model, tuple(notes))


def _names(path: Path, rows: Sequence[TwoOutputs], exchanged: Sequence[bool], side: str) -> str:
    """Returns the one name that a side has in all rows; raises DataError if it has several."""
    wanted = {row.names[turned != (side == "model")] for row, turned in zip(rows, exchanged, strict=True)}
    if len(wanted) > 1:
        shown = ", ".join(repr(name) for name in sorted(wanted)[:3])
        raise DataError(path, f"has {len(wanted)} different names of the {side}: {shown}")
    return wanted.pop()
