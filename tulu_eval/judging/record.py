"""What is written of a judging: annotations for alpaca_eval's own tools, judgments without any text, and a manifest."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tulu_eval import files
from tulu_eval.benchmarks.alpaca_set import BASELINE, SIZE, read_rows
from tulu_eval.errors import DataError, UserError
from tulu_eval.judging.budget import Estimate, Price
from tulu_eval.judging.calibrate import Calibration
from tulu_eval.judging.judge import FAILURES, Judging, Judgment
from tulu_eval.judging.recipe import ANNOTATOR, Pair, Recipe
from tulu_eval.judging.score import CALIBRATED, Z95, Judged, Score, results, signature
from tulu_eval.records import Result, content_hash, to_json

LIMIT = 1_000_000
"""Bytes of the largest calibration that is read; it has one number a field."""

KINDS = frozenset({"judged", "identical", *FAILURES})


def write_annotations(path: Path, pairs: Sequence[Pair], judgments: Sequence[Judgment], recipe: Recipe, generator: str) -> None:
    """Writes ``annotations.json`` as alpaca_eval's own tools read it; has texts. A failed pair has no preference (null)."""
    annotator = ANNOTATOR if recipe.published else f"{recipe.judge}-{recipe.method}"
    data = [
        {
            "instruction": pair.instruction,
            "output_1": pair.baseline,
            "generator_1": BASELINE,
            "output_2": pair.output,
            "generator_2": generator,
            "annotator": annotator,
            "preference": judgment.preference,
            "raw_completion": None,
        }
        for pair, judgment in zip(pairs, judgments, strict=True)
    ]
    files.write_text(path, json.dumps(data, indent=1) + "\n")


def write_judgments(path: Path, pairs: Sequence[Pair], judgments: Sequence[Judgment]) -> None:
    """Writes judgments without any text, one JSON line a pair: what may be published of licensed data."""
    lines = []
    for pair, judgment in zip(pairs, judgments, strict=True):
        record = {
            "id": judgment.id,
            "kind": judgment.kind,
            "preference": judgment.preference,
            "swapped": judgment.swapped,
            "question_sha256": judgment.key,
            "output_sha256": content_hash(pair.output),
            "output_characters": len(pair.output),
            "baseline_characters": len(pair.baseline),
        }
        lines.append(to_json(record))
    files.write_text(path, "\n".join(lines) + "\n")


def read_judgments(path: Path) -> list[Judged]:
    """Returns the rows of a file that :func:`write_judgments` wrote, to be scored again without any text.

    Raises:
        DataError: The file is not of this form.
    """
    rows: dict[int, Judged] = {}
    for number, data in enumerate(read_rows(path, ("id", "kind")), start=1):
        try:
            place, value, kind = int(data["id"].removeprefix("alpaca-")), data["preference"], data["kind"]
            row = Judged(place, value, int(data["baseline_characters"]), int(data["output_characters"]), kind)
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(path, "is not a judgment", number) from error
        in_range = isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value <= 2
        if kind not in KINDS or in_range != (kind not in FAILURES) or not (in_range or value is None) or not 0 <= place < SIZE:
            raise DataError(path, f"preference {value!r} of kind {kind!r} is none", number)
        if place in rows:
            raise DataError(path, f"alpaca-{place} is there twice", number)
        rows[place] = row
    return list(rows.values())


def manifest(
    judging: Judging, recipe: Recipe, where: str, generator: str, price: Price | None, estimate: Estimate | None
) -> dict[str, Any]:
    """Returns what is recorded beside the judgments; no key, no text.

    Args:
        judging: What came of it.
        recipe: How the judge was asked.
        where: The endpoint's address, or the engine's name.
        generator: Whose outputs were judged.
        price: Of the judge; None where it is not known.
        estimate: Made before the first call.
    """
    usage = judging.usage
    return {
        "judge": recipe.judge,
        "method": recipe.method,
        "where": where,
        "served_as": judging.served,
        "prompt_sha256": recipe.prompt_sha256,
        "parameters": dict(recipe.parameters),
        "baseline": BASELINE,
        "generator": generator,
        "counts": judging.counts,
        "cached": judging.cached,
        "estimate": dataclasses.asdict(estimate) if estimate else None,
        "spent": dataclasses.asdict(judging.spent),
        "whole": {
            **dataclasses.asdict(usage),
            "dollars": price.dollars(usage.prompt_tokens, usage.answer_tokens) if price else None,
        },
        "price": dataclasses.asdict(price) if price else None,
        "tulu_eval": importlib.metadata.version("tulu-eval"),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def write_calibration(path: Path, found: Calibration) -> None:
    """Writes a calibration as JSON."""
    files.write_text(path, json.dumps(dataclasses.asdict(found), indent=1) + "\n")


def read_calibration(path: Path) -> Calibration:
    """Returns what :func:`write_calibration` wrote.

    Raises:
        DataError: The file is not a calibration.
    """
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


def calibrated(found: Score, calibration: Calibration) -> Result:
    """Returns the raw win rate mapped to the original judge's scale: an estimate, named after the judge that made it.

    There is no such number for LC: the mapping is of preferences, not of fits.

    Raises:
        UserError: The calibration is of another judge, method or prompt.
    """
    judge = found.judge
    if (judge.name, judge.method, judge.prompt_sha256) != (calibration.judge, calibration.method, calibration.prompt_sha256):
        raise UserError(
            f"the calibration is of {calibration.judge} ({calibration.method}), the score of {judge.name} ({judge.method})"
        )
    value, error = calibration.apply(found.win_rate.win_rate, found.win_rate.standard_error)
    raw = results(found)[-1]
    models = f"{calibration.n} pairs of {len(calibration.models)} model{'s' if len(calibration.models) != 1 else ''}"
    return dataclasses.replace(
        raw,
        metric=raw.metric + CALIBRATED,
        value=min(100.0, max(0.0, value)),
        low=max(0.0, value - Z95 * error),
        high=min(100.0, value + Z95 * error),
        interval="normal95+calibration",
        signature=f"{signature(found)}|calibrated:{models}",
    )
