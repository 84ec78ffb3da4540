"""What ``tulu-eval plan`` does with the name of a suite."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import tulu_eval
from tulu_eval.cli.common import print_json, print_text, then
from tulu_eval.errors import DataError

LARGEST = 1_000_000
"""Bytes of a file that lists models."""

LONGEST = 1000
"""Characters of a model's name or path; to look for names like a much longer one would take minutes."""


def plan_suite(suite: str, models: Path, gpus: int, price: float | None, registry: Path | None, as_json: bool) -> None:
    """Prints the plan of a suite for the models that a file has, one per line."""
    from tulu_eval.reports import plan_models as report

    found = tulu_eval.plan_models(suite, _listed(models), gpus, gpu_hour_price=price, registry=registry)
    if as_json:
        print_json(dataclasses.asdict(found))
    else:
        print_text(report.as_text(found))
        then("run", suite, "--model", found.models[0].model, "--backend", "vllm", "--dry-run")


def _listed(path: Path) -> list[str]:
    """Returns the models of a file; raises DataError if it names none, or one that is too long."""
    from tulu_eval import files

    models = [line.strip() for line in files.read_text(path, LARGEST).splitlines() if line.strip()]
    if not models:
        raise DataError(path, "names no model; give one per line")
    if any(len(model) > LONGEST for model in models):
        raise DataError(path, f"has a line of more than {LONGEST} characters, which names no model; give one per line")
    return models
