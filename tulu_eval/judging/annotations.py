"""Published judgments in alpaca_eval's format, read with every row placed by its instruction's text.

``annotations.json``: a JSON list of ``{"instruction", "output_1", "output_2", "generator_1", "generator_2", "annotator",
"preference", "raw_completion"}``, output_1 being the baseline's.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tulu_eval.benchmarks.alpaca_set import SIZE, read_rows
from tulu_eval.errors import DataError
from tulu_eval.judging.files import Outputs, one_value, place_of, read_outputs
from tulu_eval.judging.recipe import Pair, pair_id


@dataclasses.dataclass(frozen=True, slots=True)
class Annotation:
    """A judged pair as published.

    Attributes:
        place: Of the instruction among the 805; of the row in positional mode.
        instruction: Its text.
        baseline: The baseline's output.
        output: The model's output.
        preference: In [1, 2], or 0 for a tie of an older judge; None where the judge failed.
        choice: The judge's raw answer, where the file has it.
    """

    place: int
    instruction: str
    baseline: str
    output: str
    preference: float | None
    choice: Mapping[str, Any] | None

    @property
    def pair(self) -> Pair:
        """The pair that was judged."""
        return Pair(pair_id(self.instruction), self.instruction, self.baseline, self.output)


@dataclasses.dataclass(frozen=True, slots=True)
class Annotations:
    """A file of annotations.

    Attributes:
        rows: In the file's order.
        model: ``generator_2``.
        baseline: ``generator_1``.
        annotator: Name of the judge's configuration.
    """

    rows: tuple[Annotation, ...]
    model: str
    baseline: str
    annotator: str


def read_reference(path: Path) -> Outputs | Annotations:
    """Returns outputs or annotations, whichever a file holds; fewer than 805 are allowed.

    Raises:
        DataError: An instruction is twice there, changed or foreign, or the file is of neither form.
    """
    judged = all("output_1" in row for row in read_rows(path, ("instruction",)))
    return read_annotations(path) if judged else read_outputs(path, partial=True)


def read_annotations(path: Path, positional: bool = False) -> Annotations:
    """Returns annotations, placed by instruction.

    Args:
        path: The file.
        positional: Take the row's number for its place, as alpaca_eval does; wrong where rows are missing, and there only for
            parity with numbers that were published so.

    Raises:
        DataError: An instruction is twice there, changed or foreign, a preference is none, or the file is not of this form.
    """
    rows = read_rows(path, ("instruction", "output_1", "output_2"))
    if len(rows) > SIZE:
        raise DataError(path, f"has {len(rows)} rows; AlpacaEval has {SIZE} instructions")
    seen: dict[int, int] = {}
    found = []
    for number, row in enumerate(rows, start=1):
        place = place_of(path, number, row["instruction"], seen)
        choice = row.get("raw_completion")
        found.append(
            Annotation(
                number - 1 if positional else place,
                row["instruction"],
                row["output_1"],
                row["output_2"],
                _preference(path, number, row),
                choice if isinstance(choice, Mapping) else None,
            )
        )
    model, baseline = one_value(path, rows, "generator_2"), one_value(path, rows, "generator_1")
    return Annotations(tuple(found), model, baseline, one_value(path, rows, "annotator"))


def _preference(path: Path, number: int, row: Mapping[str, Any]) -> float | None:
    """Returns a row's preference; None where the judge failed, which alpaca_eval stores as null, NaN or -1.

    0 is how judges before the weighted ones wrote a tie. A weighted judge gives a number from 1 to 2 (all 41,732 stored
    judgments do), so there it is a mistake.
    """
    if "preference" not in row:
        raise DataError(path, f"row {number} has no preference")
    value = row["preference"]
    if value is None or value == -1 or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not (value == 0 or 1 <= value <= 2):
        raise DataError(path, f"row {number}: preference {value!r} is none; it must be from 1 (baseline) to 2 (model), or null")
    if value == 0 and str(row.get("annotator", "")).startswith("weighted"):
        raise DataError(path, f"row {number}: preference 0 is none of {row['annotator']}, whose verdicts are from 1 to 2")
    return float(value)
