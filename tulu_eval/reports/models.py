"""The report of the registry: a list of models, or one model with its numbers, sources, contradictions and lineage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tulu_eval.errors import counted
from tulu_eval.findings.table_columns import TITLES
from tulu_eval.registry import Lineage, Model, PublishedCell, Suite
from tulu_eval.reports.layout import data, grid, wrapped

CONTRADICTED = "!"
"""Mark after a contradicted number."""


def list_as_text(suite: Suite, models: Sequence[Model]) -> str:
    """Returns models as one table per family."""
    header = ("model", "stage", "size", "trained on", *TITLES.values())
    blocks = []
    for family in dict.fromkeys(model.family for model in models):
        rows = [
            (model.name, model.stage, model.size, _data(model), *(_numbers(suite, model, key) for key in TITLES))
            for model in models
            if model.family == family
        ]
        blocks.append(f"{family}\n\n{grid(header, rows, right=(2,), keep=(0, 1, 2))}")
    sizes = ", ".join(f"{title} on {suite.metrics[key].n} items" for key, title in TITLES.items())
    blocks.append(
        f"{counted(len(models), 'model')}. Published numbers: {sizes}; {CONTRADICTED} marks a contradicted number.\n"
        "'tulu-eval models show NAME' gives sources, contradictions and lineage."
    )
    return "\n\n".join(blocks)


def _data(model: Model) -> str:
    return model.preference_split or model.sft_data or ""


def _numbers(suite: Suite, model: Model, key: str) -> str:
    cells = [cell for cell in suite.cells(model) if cell.metric_key == key]
    return " / ".join(dict.fromkeys(f"{cell.value:.1f}{_mark(cell)}" for cell in cells))


def _mark(cell: PublishedCell) -> str:
    return CONTRADICTED if cell.standing == "contradicted" else ""


def list_as_json(suite: Suite, models: Sequence[Model]) -> list[dict[str, Any]]:
    """Returns models with their numbers as plain data."""
    return [{**data(model), "numbers": [data(cell) for cell in suite.cells(model)]} for model in models]


def one_as_json(suite: Suite, model: Model) -> dict[str, Any]:
    """Returns one model with its lineage, numbers and contradictions as plain data."""
    return {
        "model": data(model),
        "lineage": lineage_as_data(suite.lineage(model)),
        "numbers": [data(cell) for cell in suite.cells(model)],
        "averages": [data(check) for check in suite.averages(model)],
        "contradictions": [data(entry) for entry in suite.contradictions(model)],
    }


def lineage_as_data(lineage: Lineage) -> dict[str, Any]:
    """Returns a lineage as plain data, each model by hub id and stage."""

    def plain(one: Model | None) -> dict[str, str] | None:
        return {"hub_id": one.hub_id, "stage": one.stage} if one else None

    return {
        "ancestors": [plain(one) for one in lineage.ancestors],
        "copied_from": plain(lineage.copied_from),
        "reward_model": plain(lineage.reward_model),
        "value_model": plain(lineage.value_model),
        "trained_with": plain(lineage.trained_with),
    }


def one_as_text(suite: Suite, model: Model) -> str:
    """Returns one model as text for people."""
    parts = (_lineage, _cells, _averages, _contradictions)
    lineage, cells, averages, contradictions = (part(suite, model) for part in parts)
    blocks = [_facts(model), lineage, cells, averages, _defects(model), contradictions]
    return "\n\n".join(block for block in blocks if block)


def _facts(model: Model) -> str:
    facts = [
        ("stage", model.stage),
        ("size", model.size),
        ("family", model.family),
        ("also called", ", ".join(model.aliases)),
        ("base", model.base),
        ("SFT data", model.sft_data),
        ("preference data", model.preference_split),
        ("reward model", model.reward_model),
        ("value model", model.value_model),
        ("trained with", model.trained_with),
        ("prompts", model.prompts),
        ("template", model.template),
        ("context", model.context and f"{model.context} tokens"),
        ("architecture", model.architecture),
        ("package", model.package and f"{model.package.distribution} {model.package.version}"),
        ("inferred", ", ".join(field.replace("_", " ") for field in model.inferred)),
        ("note", model.note),
    ]
    return "\n".join([model.hub_id, *(f"  {name:<16} {value}" for name, value in facts if value)])


def _lineage(suite: Suite, model: Model) -> str:
    lineage = suite.lineage(model)
    if len(lineage.path) == 1:
        return ""
    beside = [
        f"  {what}: {step(one)}"
        for what, one in (
            ("rewarded by", lineage.reward_model if lineage.copied_from is None else None),
            ("value model beside it", lineage.value_model),
            ("trained beside", lineage.trained_with),
        )
        if one is not None
    ]
    return "\n".join(["lineage: " + " → ".join(map(step, lineage.path)), *beside])


def step(model: Model) -> str:
    """Returns a model of a lineage as text."""
    return f"{model.name} ({model.stage})"


def _cells(suite: Suite, model: Model) -> str:
    rows = [
        (
            suite.metrics[cell.metric_key].title,
            f"{cell.value:.2f}".removesuffix("0") + (f" ± {cell.se:.2f}" if cell.se is not None else ""),
            str(cell.n or "unknown"),
            cell.standing,
            str(cell.source) + (f', as "{cell.label}"' if cell.label else ""),
        )
        for cell in suite.cells(model)
    ]
    if not rows:
        return "no published number"
    return grid(("published", "value", "n", "standing", "source"), rows, right=(1, 2), keep=(1, 2))


def _averages(suite: Suite, model: Model) -> str:
    lines = []
    for check in suite.averages(model):
        found = "; ".join(f"{one.words}: {one.value:.2f}" for one in check.fitting) or "follows from no rule that was tried"
        lines.append(wrapped(f"  {suite.metrics[check.metric].title}, {check.printed} ({check.source}): {found}", "    "))
    return "\n".join(["how averages follow from their rows:", *lines]) if lines else ""


def _defects(model: Model) -> str:
    lines = [
        f"  {d.file}, {d.field}: {d.found} instead of {d.right}. {d.effect} {'Corrected here.' if d.mend else 'Not corrected.'}"
        for d in model.defects
    ]
    lines = [wrapped(line, "    ") for line in lines]
    return "\n".join(["defects of the released files:", *lines]) if lines else ""


def _contradictions(suite: Suite, model: Model) -> str:
    lines = []
    for entry in suite.contradictions(model):
        first, second = suite.sources[entry.first_source], suite.sources[entry.second_source]
        lines.append(
            wrapped(f"  {entry.title or entry.id}. {entry.first} ({first}) {entry.second} ({second}) {entry.advice}", "    ")
        )
    return "\n".join(["contradictions of the record:", *lines]) if lines else ""
