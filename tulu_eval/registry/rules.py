"""Rules between entries: names are unique, references lead to entries, contradictions concern existing numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from tulu_eval.registry.card_tables import HUB, CardRow, FamilyRow
from tulu_eval.registry.entries import Metric, Model, Source, Stage
from tulu_eval.registry.lineage import STARTS_FROM
from tulu_eval.registry.published import Contradiction, PublishedCell
from tulu_eval.registry.suite_schema import Placed

Keyed = TypeVar("Keyed", Model, Source, Metric, Contradiction)
REFERENCES: Mapping[str, tuple[Stage, ...]] = {
    "reward_model": ("RM",),
    "value_model": ("value",),
    "trained_with": ("PPO",),
}
"""Fields of a model that hold a hub id, and the allowed stages of the model named there.

The stages for ``base`` depend on the model's own stage.
"""

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_FAMILY_CELLS = ("dpo", "ppo", "reward_model", "value_model")


def index(entries: Iterable[Placed[Keyed]], field: str) -> dict[str, Keyed]:
    """Returns records by their key; raises DataError if two entries have the same key."""
    found: dict[str, Keyed] = {}
    for record, entry in entries:
        key = getattr(record, field)
        if key in found:
            entry.fail(f"{key!r} is already in the registry and cannot be defined again")
        found[key] = record
    return found


def names(models: Iterable[Placed[Model]]) -> dict[str, str]:
    """Returns the hub id by each written name in lower case: hub ids, aliases, short names.

    Raises:
        DataError: If a hub id is not ``organisation/name``, or two models have the same name.
    """
    taken: dict[str, str] = {}
    for model, entry in models:
        if not _HUB_ID.fullmatch(model.hub_id):
            entry.fail("'hub_id' must be organisation/name, e.g. 'me/my-model'")
        if taken.get(model.hub_id.lower(), "").lower() == model.hub_id.lower():
            entry.fail(f"{model.hub_id!r} is already in the registry and cannot be defined again")
        for name in (model.hub_id, *model.aliases, *filter(None, [model.name])):
            if name.lower() in taken:
                entry.fail(f"the name {name!r} is already taken by {taken[name.lower()]}")
            taken[name.lower()] = model.hub_id
    return taken


def check_models(models: Sequence[Placed[Model]], known: Mapping[str, Model]) -> None:
    """Checks the references of every model.

    Raises:
        DataError: If a reference names an unknown model or one of a wrong stage, ``base`` leads in a circle, ``inferred`` names
            a field that is not given, or ``context`` is below 1.
    """
    for model, entry in models:
        for field, stages in {"base": STARTS_FROM[model.stage], **REFERENCES}.items():
            reference = getattr(model, field)
            if reference is None:
                continue
            entry.refer(known, reference, field)
            found = known[reference].stage
            if found not in stages:
                can = ", ".join(stages)
                entry.fail(
                    f"{field!r} names {reference!r} of stage {found}; for a model of stage {model.stage} it must be {can}"
                )
        for field in model.inferred:
            if not getattr(model, field, None):
                entry.fail(f"'inferred' names {field!r}, which is not given here")
        if model.context is not None and model.context < 1:
            entry.fail(f"'context' is {model.context}")
    for model, entry in models:
        seen = {model.hub_id}
        base = model.base
        while base is not None:
            if base in seen:
                entry.fail(f"'base' leads in a circle through {base!r}")
            seen.add(base)
            base = known[base].base


def check_contradictions(
    entries: Sequence[Placed[Contradiction]],
    models: Mapping[str, Model],
    sources: Mapping[str, Source],
    cells: Sequence[PublishedCell],
) -> dict[tuple[str, str, str], tuple[str, ...]]:
    """Returns the ids of the contradictions of each contradicted cell, by model, metric and source.

    Raises:
        DataError: If an entry names an unknown model, source or cell, or a pattern is not a regular expression.
    """
    present = {(cell.model, cell.metric_key, cell.source.key) for cell in cells}
    contradicted: dict[tuple[str, str, str], tuple[str, ...]] = {}
    for record, entry in entries:
        entry.refer(sources, record.first_source, "first_source")
        entry.refer(sources, record.second_source, "second_source")
        for model in record.models:
            entry.refer(models, model, "models")
        for cell in record.cells:
            place = (cell.model, cell.metric, cell.source)
            if place not in present:
                entry.fail(f"'cells' names {cell.metric} of {cell.model} in source {cell.source!r}, which is not there")
            if cell.model not in record.models:
                entry.fail(f"'cells' names {cell.model}, but 'models' does not")
            contradicted[place] = (*contradicted.get(place, ()), record.id)
        try:
            re.compile(record.pattern)
        except re.error as error:
            entry.fail(f"'pattern' is not a regular expression: {error}")
    return contradicted


def check_card(
    rows: Sequence[Placed[CardRow]],
    family: Sequence[Placed[FamilyRow]],
    models: Mapping[str, Model],
    own: object,
) -> None:
    """Checks that the card's rows link to models of the registry and are in the suite's own files.

    ``own`` is the folder of the suite's files; only these may hold rows of the card's two tables.

    Raises:
        DataError: If a row is in another file, or a link leads to no model of the registry.
    """
    for _, entry in (*rows, *family):
        if entry.path.parent != own:
            entry.fail("rows of the card belong to the suite's own files; write your numbers as [[cell]] or [[table]]")
    for record, entry in family:
        for field, link in zip(_FAMILY_CELLS, record.links, strict=True):
            if link is not None and link.hub_id not in models:
                entry.fail(f"{field!r} links to {link.target.removeprefix(HUB)!r}, which is not in the registry")
