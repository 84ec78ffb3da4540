"""What is written of a judging: annotations for alpaca_eval's own tools, judgments without any text, and a manifest."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tulu_eval.errors import DataError
from tulu_eval.judging.budget import Estimate, Price
from tulu_eval.judging.evalset import BASELINE, SIZE
from tulu_eval.judging.files import write_whole
from tulu_eval.judging.judge import FAILURES, Judging, Judgment
from tulu_eval.judging.recipe import ANNOTATOR, Pair, Recipe
from tulu_eval.judging.score import Judged
from tulu_eval.records import content_hash, to_json

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
    write_whole(path, json.dumps(data, ensure_ascii=False, indent=1) + "\n")


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
    write_whole(path, "\n".join(lines) + "\n")


def read_judgments(path: Path) -> list[Judged]:
    """Returns the rows of a file that :func:`write_judgments` wrote, to be scored again without any text.

    Raises:
        DataError: The file is not of this form.
    """
    if not path.is_file():
        raise DataError(path, "no such file")
    rows: dict[int, Judged] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            data = json.loads(line)
            place = int(data["id"].removeprefix("alpaca-"))
            value, kind = data["preference"], data["kind"]
            row = Judged(place, value, int(data["baseline_characters"]), int(data["output_characters"]), kind)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(path, "is not a judgment", number) from error
        in_range = isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value <= 2
        if kind not in KINDS or in_range != (kind not in FAILURES) or not (in_range or value is None) or not 0 <= place < SIZE:
            raise DataError(path, f"preference {value!r} of kind {kind!r} is none", number)
        if place in rows:
            raise DataError(path, f"alpaca-{place} is there twice", number)
        rows[place] = row
    if not rows:
        raise DataError(path, "has no rows")
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
