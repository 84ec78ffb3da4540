"""Reads and writes the files of a judging: annotations for alpaca_eval's tools, judgments without texts, and a manifest."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from tulu_eval import files
from tulu_eval.benchmarks.alpaca_baselines import BASELINE, Baseline, identify
from tulu_eval.benchmarks.alpaca_set import SIZE, read_rows
from tulu_eval.errors import DataError, UserError
from tulu_eval.judging.calibrate_judge import Bias, Calibration
from tulu_eval.judging.judge import FAILURES, Judgment
from tulu_eval.judging.judge_recipe import ALPACA_EVAL_2, JudgeRecipe, Pair
from tulu_eval.judging.judged import Judge, Judged, Terms
from tulu_eval.judging.numbers import CALIBRATED, Z95, results, signature
from tulu_eval.judging.win_rates import Score
from tulu_eval.records import Result, content_hash, to_json

LIMIT = 1_000_000
"""Largest size of a calibration file in bytes; it has one number per field."""

KINDS = frozenset({"judged", "identical", *FAILURES, "missing"})

MOST_CHARACTERS = 10**9
"""Largest length of an output in characters; a larger number is an error."""


@dataclasses.dataclass(frozen=True, slots=True)
class StoredJudgment:
    """One line of ``judgments.jsonl``.

    Attributes:
        id: Id of the pair, ``alpaca-<place>``.
        baseline_sha256: Hash of the baseline's output; empty in files of versions that did not record it.
        exchanged: Whether the row was written with the model as ``output_1``.
    """

    id: str
    judged: Judged
    output_sha256: str
    baseline_sha256: str
    exchanged: bool


@dataclasses.dataclass(frozen=True, slots=True)
class StoredJudgments:
    """A file of judgments.

    Attributes:
        rows: Judgments in the file's order.
        baseline: The baseline, identified by the outputs' hashes; ``None`` if the file has none.
    """

    rows: tuple[StoredJudgment, ...]
    baseline: Baseline | None

    def judged(self, positional: bool = False) -> list[Judged]:
        """Returns the rows for a score; with ``positional``, the row's number is its place."""
        if positional:
            return [dataclasses.replace(row.judged, place=number) for number, row in enumerate(self.rows)]
        return [row.judged for row in self.rows]

    def terms(self, judge: Judge, positional: bool = False) -> Terms:
        """Returns the terms of a score by this judge."""
        moved = positional and any(number != row.judged.place for number, row in enumerate(self.rows))
        return Terms(judge, self.baseline, any(row.exchanged for row in self.rows), moved)


def write_annotations(
    path: Path, pairs: Sequence[Pair], judgments: Sequence[Judgment], recipe: JudgeRecipe, generator: str
) -> None:
    """Writes ``annotations.json``, with texts, for alpaca_eval's own tools; a failed pair gets the preference null."""
    annotator = recipe.edition.annotator if recipe.published else f"{recipe.judge}-{recipe.method}"
    data = [
        {
            "instruction": pair.instruction,
            "output_1": pair.baseline,
            "generator_1": recipe.edition.baseline_name,
            "output_2": pair.output,
            "generator_2": generator,
            "annotator": annotator,
            "preference": judgment.preference,
            "raw_completion": None,
        }
        for pair, judgment in zip(pairs, judgments, strict=True)
    ]
    files.write_text(path, json.dumps(data, indent=1) + "\n")


def write_judgments(
    path: Path, pairs: Sequence[Pair], judgments: Sequence[Judgment], exchanged: Collection[str] = frozenset()
) -> None:
    """Writes judgments without any text, one JSON line per pair, which may be published although the data is licensed.

    ``judgments`` are in the order of ``pairs``; ``exchanged`` has the ids of pairs that were written with the model as
    ``output_1``.
    """
    lines = []
    for pair, judgment in zip(pairs, judgments, strict=True):
        record = {
            "id": judgment.id,
            "kind": judgment.kind,
            "preference": judgment.preference,
            "swapped": judgment.swapped,
            "question_sha256": judgment.key,
            "output_sha256": content_hash(pair.output),
            "baseline_sha256": content_hash(pair.baseline),
            "output_characters": len(pair.output),
            "baseline_characters": len(pair.baseline),
        }
        lines.append(to_json({**record, **({"exchanged": True} if judgment.id in exchanged else {})}))
    files.write_text(path, "\n".join(lines) + "\n")


def read_judgments(path: Path) -> StoredJudgments:
    """Returns the judgments that :func:`write_judgments` wrote; they can be scored again without any text.

    Raises:
        DataError: If the file does not have this form.
    """
    rows: dict[str, StoredJudgment] = {}
    for number, data in enumerate(read_rows(path, ("id", "kind", "output_sha256")), start=1):
        try:
            row = _stored(data)
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(path, f"is not a judgment: {error}", number) from error
        if rows.setdefault(row.id, row) is not row:
            raise DataError(path, f"{row.id} appears twice", number)
    hashed = [row for row in rows.values() if row.baseline_sha256]
    if hashed and len(hashed) < len(rows):
        raise DataError(path, f"has the baseline's hash in only {len(hashed)} of {len(rows)} judgments")
    baseline = identify({row.judged.place: row.baseline_sha256[:16] for row in hashed}) if hashed else None
    return StoredJudgments(tuple(rows.values()), baseline)


def _stored(data: Mapping[str, Any]) -> StoredJudgment:
    """Returns the judgment of one line; raises ValueError, KeyError or TypeError if the line is not one."""
    place, value, kind = int(data["id"].removeprefix("alpaca-")), data["preference"], data["kind"]
    lengths = data["baseline_characters"], data["output_characters"]
    if not 0 <= place < SIZE or data["id"] != f"alpaca-{place}":
        raise ValueError(f"{data['id']!r:.40} is not the id of an AlpacaEval item")
    if any(type(length) is not int or not 0 <= length <= MOST_CHARACTERS for length in lengths):
        raise ValueError("a length is not a number of characters")
    in_range = type(value) in (int, float) and 1 <= value <= 2
    if kind not in KINDS or in_range != (kind in ("judged", "identical")) or not (in_range or value is None):
        raise ValueError(f"preference {value!r:.40} of kind {kind!r:.40} is invalid")
    theirs = data.get("baseline_sha256", "")
    for digest in (data["output_sha256"], *([theirs] if theirs != "" else [])):
        if not (isinstance(digest, str) and re.fullmatch(r"[0-9a-f]{64}", digest)):
            raise ValueError(f"{digest!r:.40} is not a hash of an output")
    row = Judged(place, None if value is None else float(value), *lengths, kind)
    return StoredJudgment(data["id"], row, data["output_sha256"], theirs, data.get("exchanged") is True)


def write_calibration(path: Path, found: Calibration) -> None:
    """Writes a calibration as JSON."""
    files.write_text(path, json.dumps(dataclasses.asdict(found), indent=1) + "\n")


def read_calibration(path: Path) -> Calibration:
    """Returns the calibration that :func:`write_calibration` wrote; raises DataError if the file is not a calibration."""
    data = files.read_bytes(path, LIMIT)
    wrong = DataError(path, "is not a calibration of a judge; make one with tulu-eval calibrate-judge")
    try:
        fields = files.parse_json(data, files.Place(path))
        found = files.decode(data, Calibration, files.Place(path))
    except DataError as error:
        raise wrong from error
    if fields.keys() != {field.name for field in dataclasses.fields(Calibration)}:
        raise wrong
    return found


def calibration_of(data: Any) -> Calibration:
    """Returns the calibration from JSON data; raises ValueError, KeyError or TypeError if the data is not one."""
    biases = {name: Bias(*map(float, data[name])) for name in ("replacement_bias", "original_bias")}
    return Calibration(**{**data, **biases, "models": tuple(map(str, data["models"]))})


def calibrated(found: Score, calibration: Calibration) -> Result:
    """Returns the raw win rate mapped to the original judge's scale: an estimate, under the replacement judge's name.

    LC has no such number, because the calibration maps preferences, not fits.

    Raises:
        UserError: If the calibration has another judge, method or prompt than the score, or the baseline is not the published.
    """
    judge = found.judge
    if (judge.name, judge.method, judge.prompt_sha256) != (calibration.judge, calibration.method, calibration.prompt_sha256):
        raise UserError(
            f"the calibration is of {calibration.judge} ({calibration.method}), the score of {judge.name} ({judge.method})"
        )
    if found.terms.baseline != ALPACA_EVAL_2.baseline.baseline:
        raise UserError(
            f"a calibration maps to the scale with the baseline {BASELINE}, which is not the baseline of this score"
        )
    value, _ = calibration.apply(found.win_rate.win_rate, found.win_rate.standard_error)
    ways = [calibration.apply(one.win_rate, one.standard_error) for one in (found.worst, found.best)]
    raw = results(found)[-1]
    models = f"{calibration.n} pairs of {len(calibration.models)} model{'s' if len(calibration.models) != 1 else ''}"
    return dataclasses.replace(
        raw,
        metric=raw.metric + CALIBRATED,
        value=min(100.0, max(0.0, value)),
        low=max(0.0, min(value - Z95 * error for value, error in ways)),
        high=min(100.0, max(value + Z95 * error for value, error in ways)),
        interval=f"normal95+calibration{'+failures' if found.errors else ''}",
        signature=f"{signature(found)}|calibrated:{models}",
    )
