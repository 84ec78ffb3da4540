"""The suite: loads models, published numbers and contradictions from TOML, checks them, and finds them by name.

The suite's own files are in ``data/`` beside this module. A user adds models and numbers with a file of the same schema::

    [[source]]
    key = "our-report"
    document = "our report, table 2"
    revision = "2025-01"

    [[model]]
    hub_id = "us/our-model"
    stage = "DPO"
    size = "8B"
    family = "ours"
    base = "allenai/llama-3-tulu-2-8b"

    [[cell]]
    model = "us/our-model"
    metric = "GSM8K_8shot_CoT"
    printed = "64.5"
    source = "our-report"
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

from tulu_eval.errors import UnknownName, UserError
from tulu_eval.registry import cells as numbers
from tulu_eval.registry import lint, rules
from tulu_eval.registry.card_tables import HUB, CardRow, FamilyRow
from tulu_eval.registry.entries import Metric, Model, Source, Stage
from tulu_eval.registry.lineage import Lineage, lineage
from tulu_eval.registry.published import Contradiction, PublishedCell
from tulu_eval.registry.suite_schema import Placed, read_file

DATA = Path(__file__).resolve().parent / "data"


@dataclasses.dataclass(frozen=True, slots=True)
class Suite:
    """All entries of the registry, as :func:`load_suite` returns them.

    Attributes:
        models: All models, in the files' order.
    """

    models: tuple[Model, ...]
    sources: dict[str, Source]
    metrics: dict[str, Metric]
    card_rows: tuple[CardRow, ...]
    family_rows: tuple[FamilyRow, ...]
    _cells: tuple[PublishedCell, ...]
    _contradictions: tuple[Contradiction, ...]
    _averages: tuple[lint.AverageCheck, ...]
    _by_id: dict[str, Model]
    _names: dict[str, str]
    _bare: dict[str, tuple[str, ...]]

    def find(self, name: str) -> Model:
        """Returns the model with this name: a hub id, its address or an alias, with or without the organisation, in any case.

        Raises:
            UnknownName: If no model has this name.
            UserError: If several models have this name without the organisation.
        """
        owners = self._owners(name)
        if len(owners) > 1:
            raise UserError(f"{name!r} is the name of {' and '.join(owners)}; give the organisation too")
        if owners:
            return self._by_id[owners[0]]
        full = "/" in name.removeprefix(HUB)
        raise UnknownName("model", name, [model.hub_id if full else model.name for model in self.models])

    def known(self, name: str) -> Model | None:
        """Returns the model that :meth:`find` finds; ``None`` if no model or several have this name."""
        owners = self._owners(name)
        return self._by_id[owners[0]] if len(owners) == 1 else None

    def _owners(self, name: str) -> tuple[str, ...]:
        wanted = name.strip().removeprefix(HUB).lower()
        return (self._names[wanted],) if "/" in wanted and wanted in self._names else self._bare.get(wanted, ())

    def of_stage(self, stage: str | None) -> tuple[Model, ...]:
        """Returns the models of a stage, ``None`` for all, sorted by family in the registry's order, then by stage and name.

        Raises:
            UnknownName: If there is no such stage.
        """
        stages: tuple[str, ...] = get_args(Stage)
        known = {name.lower(): name for name in stages}
        if stage is not None and stage.lower() not in known:
            raise UnknownName("stage", stage, stages)
        wanted = stages if stage is None else (known[stage.lower()],)
        families = list(dict.fromkeys(model.family for model in self.models))
        found = [model for model in self.models if model.stage in wanted]
        return tuple(sorted(found, key=lambda model: (families.index(model.family), stages.index(model.stage), model.name)))

    def cells(self, model: Model | None = None, benchmark: str | None = None) -> tuple[PublishedCell, ...]:
        """Returns the published numbers; only those of ``model`` and ``benchmark`` if given."""
        return tuple(
            cell
            for cell in self._cells
            if (model is None or cell.model == model.hub_id) and (benchmark is None or cell.benchmark == benchmark)
        )

    def contradictions(self, model: Model | None = None) -> tuple[Contradiction, ...]:
        """Returns the contradictions, written and then computed; only those that concern ``model`` if given."""
        return tuple(entry for entry in self._contradictions if model is None or model.hub_id in entry.models)

    def averages(self, model: Model | None = None) -> tuple[lint.AverageCheck, ...]:
        """Returns the published averages beside what each rule gives for their rows; only those of ``model`` if given."""
        return tuple(check for check in self._averages if model is None or check.model == model.hub_id)

    def lineage(self, model: Model) -> Lineage:
        """Returns the ancestors of a model and the models that took part in its training."""
        return lineage(model, self._by_id)


def load_suite(extra: Path | None = None) -> Suite:
    """Returns the suite, with a user's models and numbers added if a file is given.

    ``extra`` is a TOML file of the same schema; it may add entries but not redefine any.

    Raises:
        DataError: If the file cannot be read or an entry is wrong; the message is one line that names the table.
    """
    return _packaged_suite() if extra is None else _assemble([*_packaged(), *read_file(extra)])


@functools.cache
def _packaged() -> tuple[Placed[Any], ...]:
    return tuple(placed for path in sorted(DATA.glob("*.toml")) for placed in read_file(path))


@functools.cache
def _packaged_suite() -> Suite:
    return _assemble(_packaged())


def _assemble(entries: Iterable[Placed[Any]]) -> Suite:
    kinds: dict[str, list[Placed[Any]]] = {}
    for placed in entries:
        kinds.setdefault(placed.entry.kind, []).append(placed)

    def of(kind: str) -> list[Placed[Any]]:
        return kinds.get(kind, [])

    names = rules.names(of("model"))
    models = {record.hub_id: _named(record) for record, _ in of("model")}
    sources = rules.index(of("source"), "key")
    metrics = rules.index(of("metric"), "key")
    rules.check_models(of("model"), models)
    rules.check_card(of("card_row"), of("family_row"), models, DATA)
    written = [
        *(cell for row in of("card_row") for cell in numbers.from_card_row(row)),
        *of("cell"),
        *(cell for table in of("table") for cell in numbers.from_table(table)),
    ]
    published = numbers.publish(written, models, metrics, sources)
    contradictions = rules.index(of("contradiction"), "id")
    numbers_written = [cell for cell, _ in written]
    averages = tuple(lint.averages(numbers_written, metrics))
    computed = tuple(lint.contradictions(numbers_written, averages, metrics, models))
    doubts = rules.check_contradictions(of("contradiction"), models, sources, published)
    for one in computed:
        for cell in one.cells:
            place = (cell.model, cell.metric, cell.source)
            doubts[place] = (*doubts.get(place, ()), one.id)
    return Suite(
        models=tuple(models.values()),
        sources=sources,
        metrics=metrics,
        card_rows=tuple(record for record, _ in of("card_row")),
        family_rows=tuple(record for record, _ in of("family_row")),
        _cells=tuple(numbers.contradict(cell, doubts.get(cell.place, ())) for cell in published),
        _contradictions=(*contradictions.values(), *computed),
        _averages=averages,
        _by_id=models,
        _names=names,
        _bare=_bare(names),
    )


def _named(model: Model) -> Model:
    return model if model.name else dataclasses.replace(model, name=model.hub_id.partition("/")[2])


def _bare(names: dict[str, str]) -> dict[str, tuple[str, ...]]:
    """Returns the hub ids by name without organisation; several if models share that name."""
    owners: dict[str, tuple[str, ...]] = {}
    for name, hub_id in names.items():
        bare = name.rpartition("/")[2]
        if hub_id not in owners.get(bare, ()):
            owners[bare] = (*owners.get(bare, ()), hub_id)
    return owners
