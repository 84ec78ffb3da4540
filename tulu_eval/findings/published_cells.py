"""Looks up the published numbers of a run, for every verb that compares a run with them.

The weights decide which numbers these are. A commit of the hub or the registry's own package identifies weights, the name of a
folder does not. For a run without published numbers, ``verify --as NAME`` chooses a model whose numbers to compare with. The
run's folder keeps that choice (``compared_as.json``), so that ``table`` and ``report`` agree with ``verify``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tulu_eval.errors import DataError, UserError
from tulu_eval.files import Record
from tulu_eval.judging import numbers
from tulu_eval.judging.numbers import CALIBRATED, edition_of_metric, is_win_rate
from tulu_eval.records import Result
from tulu_eval.registry import Model, PublishedCell, Suite
from tulu_eval.runs.reading import StoredRun
from tulu_eval.store import schema
from tulu_eval.store.manifest import FORMAT, write_json
from tulu_eval.store.schema import Name

FILE = "compared_as.json"


class ComparedAs(Record, frozen=True):
    """``compared_as.json``."""

    format: Literal[1]
    model: Name


@dataclasses.dataclass(frozen=True, slots=True)
class Published:
    """The published numbers of a run.

    Attributes:
        same_weights: Whether the run measured that model's released, unaltered weights.
        cells: Numbers on the run's benchmark with a metric that the run has; a judged run has all win rates.
    """

    model: Model
    same_weights: bool
    cells: tuple[PublishedCell, ...]


def published_of(run: StoredRun, suite: Suite, stand_in: str | None = None) -> Published:
    """Returns the published numbers of a run.

    ``stand_in`` is the name of a model whose numbers to return; default: the run's own model, else the one in its note.

    Raises:
        UserError: If no number was published for the run, or ``stand_in`` is not in the registry.
    """
    if stand_in:
        model, same_weights = suite.find(stand_in), False
    elif (own := released_model(run, suite)) is not None:
        model, same_weights = own, as_released(run)
    elif (remembered := remembered_model(run.folder, suite)) is not None:
        model, same_weights = remembered, False
    else:
        raise UserError(_unknown(run, suite))
    cells = _cells(run, suite, model)
    return Published(model, same_weights and not _requantized(run, model, cells, suite), tuple(cells))


def remember(run: StoredRun, suite: Suite, stand_in: str) -> None:
    """Writes into a run's folder with which model's numbers to compare it; does nothing for a model of the registry."""
    if released_model(run, suite) is None:
        write_json(run.folder / FILE, {"format": FORMAT, "model": suite.find(stand_in).hub_id})


def remembered_model(folder: Path, suite: Suite) -> Model | None:
    """Returns the model that :func:`remember` noted; ``None`` if there is no note.

    Raises:
        DataError: If the note has another form, or its model is not in the registry.
    """
    path = folder / FILE
    if not path.exists():
        return None
    note = schema.read_record(path, ComparedAs, "a note")
    found = next((model for model in suite.models if model.hub_id == note.model), None)
    if found is None:
        raise DataError(path, "names no model of the registry; remove it, and say it again with 'tulu-eval verify --as NAME'")
    return found


def released_model(run: StoredRun, suite: Suite) -> Model | None:
    """Returns the model of the registry that a run measured; ``None`` for any other model."""
    known = suite.known(run.model)
    local = run.about.model.revision.startswith("sha256:")
    return None if known is None or (local and known.package is None) else known


def as_released(run: StoredRun) -> bool:
    """Whether a run used unaltered weights: not quantised, without adapter, and if it was imported, of a known commit."""
    if unnamed_revision(run):
        return False
    return not run.about.settings.quantization and not run.about.settings.adapter


def packaged_form(run: StoredRun, model: Model) -> str | None:
    """Returns how the weights of a run from the model's package were quantised; ``None`` if they are not the package's."""
    if model.package is None or not run.about.model.revision.startswith("sha256:"):
        return None
    return model.package.quantization


def _requantized(run: StoredRun, model: Model, cells: Sequence[PublishedCell], suite: Suite) -> bool:
    """Whether a run took a model's weights from a package that has them in another form than those behind its numbers."""
    form = packaged_form(run, model)
    return form is not None and any(suite.metrics[cell.metric_key].quantization != form for cell in cells)


def unnamed_revision(run: StoredRun) -> bool:
    """Whether a run was imported without the revision of its model."""
    return bool(run.imported) and run.about.model.revision == "unknown"


def rows_for(run: StoredRun, suite: Suite, cell: PublishedCell) -> list[Result]:
    """Returns the rows to compare: for each protocol that contains the cell's items the first, by the published scorer.

    If it is not known which items these are, the registry names the protocols.
    For a win rate these are the original judge's rows, or if there are none, rows that a calibration maps to its scale.
    """
    wanted, draws = run.members(cell.protocol), suite.metrics[cell.metric_key].draws
    covering = [
        row for row in run.results if row.protocol in draws or (wanted and not draws and wanted <= run.members(row.protocol))
    ]
    if not is_win_rate(cell.metric):
        rows: dict[str, Result] = {}
        for row in covering:
            if row.metric == cell.metric:
                rows.setdefault(row.protocol, row)
        return list(rows.values())
    original = [row for row in covering if row.metric == cell.metric and numbers.by_original_judge(row)]
    mapped = [row for row in covering if row.metric == cell.metric + CALIBRATED and numbers.maps_to_published(row)]
    return original or mapped


def _unknown(run: StoredRun, suite: Suite) -> str:
    try:
        namesake = suite.find(run.model)
    except UserError:
        return (
            f"there is no published number of {run.model}: it is not in the registry. "
            "--as NAME compares with the numbers of model NAME, --registry FILE adds numbers of your own"
        )
    return (
        f"there is no published number of {run.model}: it is a local folder or file, and no commit says that it is "
        f"{namesake.hub_id}. --as {namesake.name} compares with that model's numbers, as other weights"
    )


def _cells(run: StoredRun, suite: Suite, model: Model) -> list[PublishedCell]:
    """Returns the published numbers of a model on the run's benchmark, of the metrics that the run has."""
    cells = suite.cells(model, run.benchmark)
    if not cells:
        others = {cell.model for cell in suite.cells(benchmark=run.benchmark)}
        scope = f"of {model.name} on {run.benchmark}" if others else f"on {run.benchmark}, of any model"
        advice = "--as NAME compares with the numbers of another, " if others else ""
        raise UserError(f"there is no published number {scope}; {advice}--registry FILE adds numbers of your own")
    metrics = {row.metric for row in run.results}
    judged = {*map(edition_of_metric, metrics)} - {None}
    found = [cell for cell in cells if cell.metric in metrics or edition_of_metric(cell.metric) in judged]
    if not found and not judged and any(is_win_rate(cell.metric) for cell in cells):
        raise UserError(
            f"{run.folder} has not been judged, and a judge made what was published: 'tulu-eval judge {run.folder}'"
        )
    if not found:
        wanted = ", ".join(dict.fromkeys(cell.metric for cell in cells))
        raise UserError(
            f"{run.folder} has rows of {', '.join(sorted(metrics)) or 'no item'}, and what was published is {wanted}"
        )
    return found
