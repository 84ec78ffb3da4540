"""Reads published judgments in alpaca_eval's format: instructions place the rows, and outputs identify their sides.

``annotations.json``: a JSON list of ``{"instruction", "output_1", "output_2", "generator_1", "generator_2", "annotator",
"preference", "raw_completion"}``. A preference is from 1 (output_1 wins) to 2 (output_2 wins). output_1 should be the
baseline's; if it is the model's, the reader reverses the preference. If the file has the judge's raw completion, the reader
checks the preference against it: all 41,732 stored preferences of alpaca_eval's published judge follow from their raw
completions within 5e-11, and so do 8770 of AlpacaEval 1's, exactly (tatsu-lab/alpaca_eval @ cd543a14).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tulu_eval.benchmarks.alpaca_baselines import Baseline
from tulu_eval.benchmarks.alpaca_set import SIZE, read_rows
from tulu_eval.errors import DataError
from tulu_eval.judging.judge_answer import read_verdict
from tulu_eval.judging.judge_recipe import ALPACA_EVAL_1, Pair, pair_id, swapped
from tulu_eval.judging.outputs import Outputs, name_in, one_name, place_of, read_outputs
from tulu_eval.judging.sides import TwoOutputs, find_sides

WEIGHED = (
    "weighted_alpaca_eval_gpt4_turbo",
    "weighted_alpaca_eval_gpt4_turbo_new",
    "weighted_alpaca_eval_gpt-4o-mini-2024-07-18",
    "weighted_alpaca_eval_vllm_llama3_70b",
)
"""Annotators whose preference is ``2 - p(m) / (p(m) + p(M))`` of the first token, without rounding. In alpaca-eval 0.6.6,
``evaluators_configs/*/configs.yaml``, they have ``logprob_parser``, ``is_binarize: false`` and no chain of thought."""

ROUNDING = 1e-9
"""Largest difference of a stored preference from the one that its raw completion gives; pandas writes 10 decimals."""


@dataclasses.dataclass(frozen=True, slots=True)
class Annotation:
    """A published judgment of two outputs: the baseline's, and the model's (``output``).

    Attributes:
        place: 0-based place of the instruction among the 805.
        preference: In [1, 2], 2 if the model wins, or 0 for a tie of an older judge; ``None`` if the judge failed.
        choice: The judge's raw answer; ``None`` if the file has none.
        exchanged: Whether the file has the model's output as ``output_1``.
    """

    place: int
    instruction: str
    baseline: str
    output: str
    preference: float | None
    choice: Mapping[str, Any] | None
    exchanged: bool = False

    @property
    def pair(self) -> Pair:
        """The judged pair."""
        return Pair(pair_id(self.instruction), self.instruction, self.baseline, self.output)


@dataclasses.dataclass(frozen=True, slots=True)
class Annotations:
    """A file of annotations.

    Attributes:
        rows: Annotations in the file's order.
        model: Name of the model; empty if the file has none.
        baseline: The baseline, identified by its outputs.
        annotator: Name of the judge's configuration; empty if the file has none.
        notes: Oddities of the file, one line each.
    """

    rows: tuple[Annotation, ...]
    model: str
    baseline: Baseline
    annotator: str
    notes: tuple[str, ...] = ()

    @property
    def exchanged(self) -> bool:
        """Whether a row has the model's output as ``output_1``."""
        return any(row.exchanged for row in self.rows)


def read_reference(path: Path) -> Outputs | Annotations:
    """Returns the outputs or the annotations of a file; fewer than 805 are allowed.

    Raises:
        DataError: If an instruction is duplicate, changed or foreign, or the file has neither form.
    """
    judged = all("output_1" in row for row in read_rows(path, ("instruction",)))
    return read_annotations(path) if judged else read_outputs(path, partial=True)


def read_annotations(path: Path) -> Annotations:
    """Returns the annotations of a file; instructions place the rows, and outputs tell baseline and model apart.

    Raises:
        DataError: If an instruction is duplicate, changed or foreign, a preference is invalid or does not match its raw
            completion, the baseline's side is unknown, or the file does not have this form.
    """
    rows = read_rows(path, ("instruction", "output_1", "output_2"))
    if len(rows) > SIZE:
        raise DataError(path, f"has {len(rows)} rows; AlpacaEval has {SIZE} instructions")
    seen: dict[int, int] = {}
    places = [place_of(path, number, row["instruction"], seen) for number, row in enumerate(rows, start=1)]
    annotator = one_name(path, rows, "annotator")
    preferences = [_preference(path, number, row) for number, row in enumerate(rows, start=1)]
    pairs = [
        TwoOutputs(
            place, (row["output_1"], row["output_2"]), (name_in(path, row, "generator_1"), name_in(path, row, "generator_2"))
        )
        for place, row in zip(places, rows, strict=True)
    ]
    sides = find_sides(path, pairs)
    unproven = _hold_against_raw(path, rows, preferences, sides.exchanged, annotator)
    found = tuple(
        _annotation(place, row, preference, turned)
        for place, row, preference, turned in zip(places, rows, preferences, sides.exchanged, strict=True)
    )
    notes = [*sides.notes, *unproven]
    if turned := sum(sides.exchanged):
        notes.append(
            f"{turned} of {len(rows)} rows have the model as output_1: their preferences are reversed, and the judge may "
            "have seen the two outputs in another order than for the published numbers"
        )
    return Annotations(found, sides.model, sides.baseline, annotator, tuple(notes))


def _annotation(place: int, row: Mapping[str, Any], preference: float | None, exchanged: bool) -> Annotation:
    baseline, output = (row["output_2"], row["output_1"]) if exchanged else (row["output_1"], row["output_2"])
    if exchanged and preference:  # neither a failure nor an old tie
        preference = 3.0 - preference
    choice = row.get("raw_completion")
    raw = choice if isinstance(choice, Mapping) else None
    return Annotation(place, row["instruction"], baseline, output, preference, raw, exchanged)


def _preference(path: Path, number: int, row: Mapping[str, Any]) -> float | None:
    """Returns a row's preference; ``None`` if the judge failed, which alpaca_eval stores as null, NaN or -1.

    Judges before the weighted ones wrote a tie as 0. A weighted judge gives a number from 1 to 2 (all 41,732 stored judgments
    do), so 0 is an error there. Two equal outputs are a tie without a call to the judge. Raises DataError if the preference is
    missing or invalid.
    """
    if "preference" not in row:
        raise DataError(path, f"row {number} has no preference")
    value = row["preference"]
    if value is None or value == -1 or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not (value == 0 or 1 <= value <= 2):
        raise DataError(path, f"row {number}: preference {value!r} is not a number from 1 (baseline) to 2 (model), or null")
    if value == 0 and str(row.get("annotator", "")).startswith("weighted"):
        raise DataError(path, f"row {number}: preference 0 is impossible for {row['annotator']}, which gives 1 to 2")
    if value not in (0, 1.5) and row["output_1"] == row["output_2"]:
        raise DataError(path, f"row {number}: preference {value!r} between two equal outputs; it must be 1.5")
    return float(value)


def _hold_against_raw(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    preferences: Sequence[float | None],
    exchanged: Sequence[bool],
    annotator: str,
) -> list[str]:
    """Checks the preferences against the file's raw completions; returns a note about rows without one.

    The seeded order depends on the instruction only. If the sides of a row are exchanged, either the judge was asked in that
    order, or somebody exchanged columns and preference afterwards. One of these two must hold for all such rows of a file.

    Raises:
        DataError: If a preference does not match its raw completion.
    """
    absent, turned_how = 0, ""
    for number, (row, value, turned) in enumerate(zip(rows, preferences, exchanged, strict=True), start=1):
        raw = row.get("raw_completion")
        if value is None or row["output_1"] == row["output_2"]:
            continue
        swap = swapped(row["instruction"])
        if isinstance(raw, Mapping) and annotator in WEIGHED:
            given = read_verdict(raw, "logprobs", swap).preference
        elif isinstance(raw, str) and annotator == ALPACA_EVAL_1.annotator:
            given = read_verdict({"message": {"content": raw}}, "ranking", swap).preference
        else:
            absent += 1
            continue
        if given is None:
            raise DataError(path, f"row {number}: preference {value!r} does not match its raw completion: no verdict")
        ways = {"as asked": given, "afterwards": 3.0 - given} if turned else {"as asked": given}
        fits = [name for name, expected in ways.items() if abs(value - expected) <= ROUNDING]
        if not fits or (turned and turned_how and turned_how not in fits):
            expected = ways[turned_how if turned and turned_how else "as asked"]
            raise DataError(path, f"row {number}: preference {value!r} does not match its raw completion: {expected!r}")
        if turned and len(fits) == 1:
            turned_how = fits[0]
    if not absent:
        return []
    return [f"{absent} of {len(rows)} preferences are unchecked: there is no raw completion with log-probabilities"]
