"""Writes and reads win rates of a file instead of a run: of annotations that were scored again, or of outputs judged here.

Their folder has the form of a judge's folder without any text, but it is not in a run folder::

    results/tulu-2-dpo-7b/alpaca-eval/judged/gpt-4-1106-preview-rescored/   judgments.jsonl  judging.json  result.json

Only the name in the file tells whose outputs they are, so every verb that shows these win rates marks their source.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from tulu_eval.benchmarks.alpaca_set import file_hash
from tulu_eval.errors import DataError
from tulu_eval.judging import record
from tulu_eval.judging.annotations import Annotation
from tulu_eval.judging.calibrate_judge import Calibration
from tulu_eval.judging.judge import Judgment, Kind
from tulu_eval.judging.judge_recipe import swapped
from tulu_eval.judging.session import ScoredOutputs
from tulu_eval.records import Result
from tulu_eval.runs.judge import BENCHMARK, checked
from tulu_eval.runs.judged_check import JUDGED, JUDGING, JUDGMENTS, check_same_outputs, judgments_hash, lc_ranges, read_judging
from tulu_eval.runs.reading import StoredRun
from tulu_eval.store.identity import safe_name
from tulu_eval.store.manifest import Recorded, locked, now, write_json, write_results
from tulu_eval.store.setup_schema import OutputsOnly, StoredBenchmark, StoredModel, StoredSettings
from tulu_eval.store.tally import Tally


def keep(root: Path, path: Path, scored: ScoredOutputs, rows: Sequence[Result], calibration: Calibration | None = None) -> Path:
    """Writes the score of annotations to a folder, so that tables show it; returns the folder.

    ``calibration`` made the calibrated row; ``None`` if there is no such row.

    Raises:
        DataError: If the annotations do not name their model.
        UserError: If the folder cannot be written, or has another model's numbers under the same name.
    """
    found, annotations = scored.score, scored.annotations
    if not annotations.model:
        raise DataError(path, "does not name the model, or names it as the baseline: whose numbers these are is not known")
    folder = root / safe_name(annotations.model) / BENCHMARK / JUDGED / f"{safe_name(rows[0].scorer)}-rescored"
    pairs = [row.pair for row in annotations.rows]
    check_same_outputs(folder, pairs)
    with locked(folder):
        exchanged = {row.pair.id for row in annotations.rows if row.exchanged}
        record.write_judgments(folder / JUDGMENTS, pairs, list(map(_judgment, annotations.rows)), exchanged)
        write_json(folder / JUDGING, {
            "judge": found.judge.name,
            "method": found.judge.method,
            "prompt_sha256": found.judge.prompt_sha256,
            "annotator": annotations.annotator,
            "annotations_sha256": file_hash(path),
            "baseline": annotations.baseline.label,
            "generator": annotations.model,
            "counts": dict(found.counts),
            "notes": list(annotations.notes),
            "screen": dataclasses.asdict(scored.screen),
            "calibration": dataclasses.asdict(calibration) if calibration else None,
            "finished": now(),
        })  # fmt: skip
        write_results(folder, Recorded(tuple(rows), judgments_hash(folder)))
    return folder


def _judgment(row: Annotation) -> Judgment:
    """Returns an annotated row as a judgment; a preference of 0, the old form of a tie, becomes 1.5."""
    kind: Kind = "missing" if row.preference is None else "identical" if row.baseline == row.output else "judged"
    preference = None if row.preference is None else row.preference or 1.5
    return Judgment(row.pair.id, "", kind, preference, swapped(row.instruction))


def read(folder: Path) -> StoredRun:
    """Returns a folder of win rates as a run of which only the model's name, the rows and the time are known.

    Raises:
        DataError: If the folder has no win rates of a file, or somebody changed it.
    """
    found = checked(folder)
    rows = found.rows
    judging = read_judging(folder)
    if not judging.generator:
        raise DataError(folder / JUDGING, "names no generator, so whose numbers these are is not known")
    about = OutputsOnly(
        model=StoredModel(name=judging.generator, revision="", tokenizer_sha256="", parameters=0),
        benchmark=StoredBenchmark(name=BENCHMARK, version=0),
        settings=StoredSettings(quantization="", adapter=""),
        source="re-scored" if judging.annotations_sha256 else "outputs of a file",
        finished=judging.finished,
    )
    n = rows[0].n if rows else 0
    return StoredRun(folder, about, rows, Tally(n, n, 0), lc_ranges=lc_ranges(found))
