"""The shapes of what the verbs print with ``--json``: typed records, from which ``generate.py`` makes a page.

A record takes no other field and misses none: ``tests/cli/test_output.py`` holds what every verb prints against them.
"""

from __future__ import annotations

from typing import Any

import msgspec

from json_shapes.comparisons import ComparedRuns, Explained, Verified
from json_shapes.models import CheckedCard, ListedModel, MadeCard, ShownModel
from json_shapes.others import ComparedOutputs, Judged, Labelled, Trained, TrainingPlan, WinRates
from json_shapes.runs import CheckedBundle, ImportedRun, MadeBundle, Rescored, RunOutcome, RunPlan, SuiteOutcome, SuitePlan
from json_shapes.tables import CardTable, SuiteTable, WrittenPage
from tulu_eval.findings.audit import Audit
from tulu_eval.findings.doctor import Installation
from tulu_eval.findings.plan import Planning
from tulu_eval.findings.planned_models import ModelsPlan
from tulu_eval.judging.calibrate_judge import Calibration
from tulu_eval.reproduction.planned import ReproductionPlan
from tulu_eval.reproduction.summary import ReproductionSummary

SHAPES: dict[str, tuple[Any, str]] = {
    "run": (list[RunOutcome], "A list with a run per model and benchmark."),
    "run --dry-run": (list[RunPlan], "A list with a plan per model and benchmark."),
    "run SUITE": (list[SuiteOutcome], "A list with an entry per model."),
    "run SUITE --dry-run": (list[SuitePlan], "A list with an entry per model."),
    "merge": (RunOutcome, "The merged run."),
    "score": (Rescored, "A run whose samples were graded again."),
    "score alpaca-eval": (WinRates, "Judgments of a file or of a judge's folder."),
    "verify": (Verified, "A verdict per published number."),
    "compare": (ComparedRuns, "The test, each flip, and what differs."),
    "explain": (Explained, "The answer and everything that was tried; with `--dry-run` nothing was generated."),
    "audit": (Audit, "What changed when items were repeated."),
    "plan": (Planning, "Items and costs of a comparison."),
    "plan SUITE": (ModelsPlan, "A suite for many models."),
    "import": (ImportedRun, "The run, and what did not fit."),
    "table": (CardTable, "The card's table."),
    "table --suite": (SuiteTable, "All numbers of each measured model."),
    "report": (WrittenPage, "The page that was written."),
    "list": (list[dict[str, str]], "A list of rows: texts by the columns' titles."),
    "models": (list[ListedModel], "A list of models with their numbers."),
    "models show": (ShownModel, "One model."),
    "card": (MadeCard, "What belongs on the card; with `--output` the same."),
    "card --check": (CheckedCard, "What is wrong on a card."),
    "bundle": (MadeBundle, "The bundle that was written."),
    "verify-bundle": (CheckedBundle, "Whether a bundle is as it was made."),
    "judge": (Judged, "Win rates of alpaca-eval."),
    "judge LABELS": (Labelled, "Labels of xstest, truthfulqa or toxigen."),
    "compare-outputs": (ComparedOutputs, "Equal outputs, and where the others part."),
    "calibrate-judge": (Calibration, "The replacement judge beside the original."),
    "train": (Trained, "What was trained."),
    "train --dry-run": (TrainingPlan, "The recipe with sources, rows, memory and time."),
    "reproduce": (ReproductionSummary, "All numbers of the reproduction, as in its `reproduce.json`."),
    "reproduce --dry-run": (ReproductionPlan, "Stages with steps, time and disk."),
    "doctor": (Installation, "What is installed here."),
}
"""The record of each verb's JSON with a word on it, by the verb and the form in which it is called."""


def held(data: Any, kind: Any) -> bool:
    """Returns whether data has exactly the fields of a record; raises msgspec.ValidationError if a type does not fit."""
    return bool(msgspec.json.decode(msgspec.json.encode(msgspec.convert(data, kind, strict=True))) == data)
