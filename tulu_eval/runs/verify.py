"""Does a run agree with what was published, and if not, which setting differs?

Every published number of the model and benchmark is compared with every row of the run that stands on its items: the row of the
same protocol, whose verdict counts, and beside it those of protocols that contain it (``full``).
"""

from __future__ import annotations

import dataclasses

from tulu_eval.errors import UserError
from tulu_eval.judging.recipe import ORIGINAL_JUDGE, PROMPT_SHA256
from tulu_eval.records import Result
from tulu_eval.registry import Contradiction, Model, PublishedCell, Suite
from tulu_eval.runs.audit import measured_flip_rate
from tulu_eval.runs.finished import Finished, failures, whole
from tulu_eval.runs.recipe import Setting, differences
from tulu_eval.stats import FLIP_RATE, Agreement, Count, Mean, agree
from tulu_eval.stats.agreement import Items
from tulu_eval.stats.intervals import z_value

_JUDGE_PARTS = {f"judge:{ORIGINAL_JUDGE}", "by:logprobs", f"prompt:{PROMPT_SHA256[:8]}"}
"""Parts of the signature of a win rate that the judge behind the published ones gave, asked as it was."""


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """One row of a run against one published number.

    Attributes:
        cell: The published number.
        row: The run's row.
        items: What the row's items are to the published ones.
        agreement: Verdict, p-value and what could have been detected.
        main: Whether this is the verdict on the cell; the others stand beside it.
    """

    cell: PublishedCell
    row: Result
    items: Items
    agreement: Agreement
    main: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Verification:
    """What ``verify`` found.

    Attributes:
        run: The run.
        model: Whose published numbers it was compared with.
        same_weights: Whether the run measured that model's released weights.
        comparisons: Each cell's main one first.
        beside: Rows of other scorers on the same items, compared with nothing.
        contradictions: Those of the published record that concern these cells.
        differences: Settings in which the run differs from the published recipe.
        notes: What else must be said, one line each.
    """

    run: Finished
    model: Model
    same_weights: bool
    comparisons: tuple[Comparison, ...]
    beside: tuple[Result, ...]
    contradictions: tuple[Contradiction, ...]
    differences: tuple[Setting, ...]
    notes: tuple[str, ...]

    @property
    def inconsistent(self) -> bool:
        """Whether the run is inconsistent with any published number."""
        return any(one.main and one.agreement.verdict == "inconsistent" for one in self.comparisons)


def verify(run: Finished, suite: Suite, *, stand_in: str | None = None, partial: bool = False) -> Verification:
    """Compares a run with every published number of its model and benchmark.

    Args:
        run: The run.
        suite: The registry.
        stand_in: Name of the model whose numbers to compare with instead of the run's own; weights then count as others.
        partial: Compare what there is, though items are missing or failed.

    Raises:
        UserError: Nothing was published of this, or the run has no whole row to compare with it.
    """
    model, same_weights = (suite.find(stand_in), False) if stand_in else _published_model(run, suite)
    cells = _cells(run, suite, model)
    comparisons: list[Comparison] = []
    notes: list[str] = []
    for cell in cells:
        reason = _untestable(run, suite, cell)
        if reason:
            notes.append(f"{cell.printed} ({cell.source}): {reason}")
            continue
        rows = _rows(run, cell)
        usable = [row for row in rows if whole(row)] or (rows if partial else [])
        if not usable:
            raise UserError(f"{run.folder}: {_lacking(rows[0])}; --partial compares what there is")
        notes += [f"protocol {row.protocol}: {_lacking(row)}" for row in rows if not whole(row)]
        if cell.se is None and not suite.metrics[cell.metric_key].counted:
            notes.append(f"{cell.printed} ({cell.source}) has no standard error; the run's own is taken for it too")
        found = [against(run, row, cell, suite, same_weights=same_weights) for row in usable]
        found.sort(key=lambda one: one.items != "same")
        comparisons += [dataclasses.replace(one, main=place == 0) for place, one in enumerate(found)]
    if not comparisons:
        raise UserError(f"{run.folder}: nothing to compare: {'; '.join(dict.fromkeys(notes))}")
    row = comparisons[0].row
    ids = {name for one in comparisons for name in one.cell.contradictions}
    return Verification(
        run=run,
        model=model,
        same_weights=same_weights,
        comparisons=tuple(comparisons),
        beside=_beside(run, comparisons),
        contradictions=tuple(entry for entry in suite.contradictions(model) if entry.id in ids),
        differences=differences(run, row, model, same_weights),
        notes=tuple(dict.fromkeys(notes)),
    )


def released_model(run: Finished, suite: Suite) -> Model | None:
    """Returns the model of the registry that a run measured, or None for any other.

    A local folder is never one, whatever its name: only a commit of the hub, or the registry's own package, tells which weights
    they are.
    """
    try:
        known = suite.find(run.model)
    except UserError:
        return None
    local = run.manifest["model"]["revision"].startswith("sha256:")
    return None if local and known.package is None else known


def as_released(run: Finished) -> bool:
    """Whether a run used its weights as they are, neither quantised nor with an adapter."""
    settings = run.manifest["settings"]
    return not settings.get("quantization") and not settings.get("adapter")


def against(run: Finished, row: Result, cell: PublishedCell, suite: Suite, *, same_weights: bool) -> Comparison:
    """Compares one row with one published number; the caller has seen that it can be tested."""
    items = _items(run, row, cell)
    rate = measured_flip_rate(run.folder) or FLIP_RATE
    if suite.metrics[cell.metric_key].counted and cell.n is not None:
        measured, published = (Count(round(value * n / 100), n) for value, n in ((row.value, row.n), (cell.value, cell.n)))
        return Comparison(
            cell, row, items, agree(measured, published, items=items, same_weights=same_weights, flip_rate=rate), main=True
        )
    error = (row.high - row.low) / (2 * z_value(0.95))
    mean = Mean(cell.value, error if cell.se is None else cell.se)
    return Comparison(cell, row, items, agree(Mean(row.value, error), mean), main=True)


def by_original_judge(row: Result) -> bool:
    """Whether a win rate is of the judge behind the published ones, asked as it was."""
    return set(row.signature.split("|")) >= _JUDGE_PARTS


def _published_model(run: Finished, suite: Suite) -> tuple[Model, bool]:
    model = released_model(run, suite)
    if model is not None:
        return model, as_released(run)
    try:
        namesake = suite.find(run.model)
    except UserError:
        raise UserError(
            f"there is no published number of {run.model}: it is not in the registry. "
            "--as NAME compares with the numbers of model NAME, --registry FILE adds numbers of your own"
        ) from None
    raise UserError(
        f"there is no published number of {run.model}: it is a local folder or file, and no commit says that it is "
        f"{namesake.hub_id}. --as {namesake.name} compares with that model's numbers, as other weights"
    )


def _cells(run: Finished, suite: Suite, model: Model) -> list[PublishedCell]:
    """Returns the published numbers of a model on the run's benchmark, of the metrics that the run has."""
    cells = suite.cells(model, run.benchmark)
    if not cells:
        others = {cell.model for cell in suite.cells(benchmark=run.benchmark)}
        scope = f"of {model.name} on {run.benchmark}" if others else f"on {run.benchmark}, of any model"
        advice = "--as NAME compares with the numbers of another, " if others else ""
        raise UserError(f"there is no published number {scope}; {advice}--registry FILE adds numbers of your own")
    metrics = {row.metric for row in run.results}
    found = [cell for cell in cells if cell.metric in metrics]
    if not found:
        wanted = ", ".join(dict.fromkeys(cell.metric for cell in cells))
        raise UserError(f"{run.folder} has rows of {', '.join(sorted(metrics))}, and what was published is {wanted}")
    return found


def _untestable(run: Finished, suite: Suite, cell: PublishedCell) -> str:
    """Returns why a published number cannot be compared with this run; empty if it can."""
    rows = _rows(run, cell)
    if not rows:
        return f"its items are those of protocol {cell.protocol}, and the run has protocol {run.manifest['protocol']['name']}"
    if suite.metrics[cell.metric_key].counted:
        return "" if cell.n is not None else "the number of items behind it is not known; 'n' of the cell can say it"
    if cell.unit != "percent":
        return f"a number in {cell.unit} has no test here"
    if rows[0].interval == "none":
        return "the run's number has no interval"
    if cell.metric.endswith("win_rate") and not by_original_judge(rows[0]):
        return f"judged by {rows[0].scorer}, and the published one by {ORIGINAL_JUDGE}; another judge is another number"
    return ""


def _rows(run: Finished, cell: PublishedCell) -> list[Result]:
    """Returns the first row, which is that of the published scorer, of each protocol that contains the cell's items."""
    wanted = run.members(cell.protocol)
    rows: dict[str, Result] = {}
    for row in run.results:
        if wanted and row.metric == cell.metric and wanted <= run.members(row.protocol):
            rows.setdefault(row.protocol, row)
    return list(rows.values())


def _items(run: Finished, row: Result, cell: PublishedCell) -> Items:
    if not whole(row):
        return "other"
    if row.n == cell.n:
        return "same"
    return "superset" if cell.n == len(run.members(cell.protocol)) < row.n else "other"


def _lacking(row: Result) -> str:
    failed = failures(row)
    parts = [f"{row.n} of {row.n_protocol} items are there"] if row.partial else []
    return ", and ".join([*parts, *([f"{failed} of {row.n} failed, which count as wrong"] if failed else [])])


def _beside(run: Finished, comparisons: list[Comparison]) -> tuple[Result, ...]:
    compared = {(one.row.protocol, one.row.metric) for one in comparisons}
    main = [one.row for one in comparisons]
    return tuple(row for row in run.results if (row.protocol, row.metric) in compared and row not in main)
