"""Win rates made of a file instead of a run: anyone's annotations scored again, or anyone's outputs judged here.

They are kept as a judge's verdicts on a run are, without any text, but with no run around them::

    results/tulu-2-dpo-7b/alpaca-eval/judged/gpt-4-1106-preview-rescored/   judgments.jsonl  judging.json  result.json

Whose outputs they are is known by the name in the file alone, so what is shown of them says where it is from.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tulu_eval.benchmarks.alpaca_set import file_hash
from tulu_eval.errors import DataError
from tulu_eval.judging import record
from tulu_eval.judging.annotations import read_annotations
from tulu_eval.judging.judge import Judgment
from tulu_eval.judging.recipe import swapped
from tulu_eval.judging.score import Score
from tulu_eval.judging.screen import Screen
from tulu_eval.records import Result
from tulu_eval.runs.finished import Finished
from tulu_eval.runs.judged import BENCHMARK, JUDGED, JUDGING, JUDGMENTS, checked_rows, judgments_hash
from tulu_eval.runs.manifest import MANIFEST, locked, now, write_json, write_results
from tulu_eval.runs.plan import safe_name


def keep(root: Path, path: Path, found: Score, rows: Sequence[Result], screen: Screen) -> Path:
    """Writes what annotations were scored to, for the table; returns the folder.

    Args:
        root: Folder of results.
        path: The annotations.
        found: Their score.
        rows: The same as rows of a table.
        screen: What is odd about the outputs.

    Raises:
        DataError: The annotations do not name their model.
        UserError: It cannot be written.
    """
    annotations = read_annotations(path)
    if not annotations.model:
        raise DataError(path, "has no generator_2, so whose numbers these are is not known")
    folder = root / safe_name(annotations.model) / BENCHMARK / JUDGED / f"{safe_name(found.judge.label)}-rescored"
    judgments = [
        Judgment(
            row.pair.id,
            "",
            "no_verdict" if row.preference is None else "identical" if row.baseline == row.output else "judged",
            row.preference or (None if row.preference is None else 1.5),
            swapped(row.instruction),
        )
        for row in annotations.rows
    ]
    with locked(folder):
        record.write_judgments(folder / JUDGMENTS, [row.pair for row in annotations.rows], judgments)
        write_json(folder / JUDGING, {
            "judge": found.judge.name,
            "method": found.judge.method,
            "prompt_sha256": found.judge.prompt_sha256,
            "annotator": annotations.annotator,
            "annotations_sha256": file_hash(path),
            "baseline": annotations.baseline,
            "generator": annotations.model,
            "counts": dict(found.counts),
            "screen": dataclasses.asdict(screen),
            "finished": now(),
        })  # fmt: skip
        write_results(folder, rows, judgments_hash(folder))
    return folder


def find(root: Path) -> list[Path]:
    """Returns the folders under a folder of results that have win rates and no run around them."""
    return [path.parent for path in sorted(root.rglob(JUDGING)) if not (path.parent.parent.parent / MANIFEST).exists()]


def read(folder: Path) -> Finished:
    """Returns such a folder as a run of which only the model's name, the rows and the time are known.

    Raises:
        DataError: It is not such a folder, or was changed by hand.
    """
    rows = checked_rows(folder)
    try:
        data: dict[str, Any] = json.loads((folder / JUDGING).read_text(encoding="utf-8"))
        manifest = {
            "model": {"name": str(data["generator"]), "revision": "", "parameters": 0},
            "benchmark": {"name": BENCHMARK},
            "settings": {},
            "sessions": [{"finished": str(data["finished"])}],
            "source": "re-scored" if "annotations_sha256" in data else "outputs of a file",
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(folder, f"its {JUDGING} cannot be read") from error
    return Finished(folder, manifest, rows)
