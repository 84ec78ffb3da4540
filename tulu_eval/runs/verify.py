"""Does a run agree with what was published, and if not, which setting differs?

Every published number of the model and benchmark is compared with every row of the run that stands on its items: the row of the
same protocol, whose verdict counts, and beside it those of protocols that contain it (``full``).
"""

from __future__ import annotations

import dataclasses

from tulu_eval.errors import UserError
from tulu_eval.judging.numbers import (
    CALIBRATED,
    NOT_RECORDED,
    by_original_judge,
    is_win_rate,
    maps_to_published,
    parts,
    published_parts,
)
from tulu_eval.judging.recipe import ORIGINAL_JUDGE
from tulu_eval.records import Result
from tulu_eval.registry import Contradiction, Model, PublishedCell, Suite
from tulu_eval.runs.audit import measured_flip_rate
from tulu_eval.runs.finished import Finished, failures, whole
from tulu_eval.runs.recipe import Setting, differences
from tulu_eval.stats import FLIP_RATE, Agreement, Count, Mean, agree
from tulu_eval.stats.agreement import Items
from tulu_eval.stats.intervals import z_value


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
class Untested:
    """A published win rate that a run's row can say nothing about, so the verdict is "cannot tell" without a test.

    Attributes:
        cell: The published number.
        row: The run's row, of another judge.
        reason: Why they cannot be compared.
    """

    cell: PublishedCell
    row: Result
    reason: str

    @property
    def explanation(self) -> str:
        """The verdict in one line."""
        return f"cannot tell: {self.row.value:.1f} % by {self.row.scorer}; {self.reason}"


@dataclasses.dataclass(frozen=True, slots=True)
class Verification:
    """What ``verify`` found.

    Attributes:
        run: The run.
        model: Whose published numbers it was compared with.
        same_weights: Whether the run measured that model's released weights.
        comparisons: Each cell's main one first.
        untested: Win rates of judges whose relation to the original judge is not known.
        beside: Rows of other scorers on the same items, compared with nothing.
        contradictions: Those of the published record that concern these cells.
        differences: Settings in which the run differs from the published recipe.
        notes: What else must be said, one line each.
    """

    run: Finished
    model: Model
    same_weights: bool
    comparisons: tuple[Comparison, ...]
    untested: tuple[Untested, ...]
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
    untested: list[Untested] = []
    notes: list[str] = []
    for cell in cells:
        untested += _untested(run, cell)
        if is_win_rate(cell.metric) and not _rows(run, cell):
            continue
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
    tried: list[Comparison | Untested] = [*comparisons, *untested]
    if not tried:
        raise UserError(f"{run.folder}: nothing to compare: {'; '.join(dict.fromkeys(notes))}")
    ids = {name for one in tried for name in one.cell.contradictions}
    return Verification(
        run=run,
        model=model,
        same_weights=same_weights,
        comparisons=tuple(comparisons),
        untested=tuple(untested),
        beside=_beside(run, comparisons),
        contradictions=tuple(entry for entry in suite.contradictions(model) if entry.id in ids),
        differences=differences(run, tried[0].row, model, same_weights),
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
    """Whether a run used its weights as they are, neither quantised nor with an adapter; of an imported one a commit tells."""
    if run.imported and run.manifest["model"]["revision"] == "unknown":
        return False
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
    cut = row.low <= 0.0 or row.high >= 100.0
    half = max(row.high - row.value, row.value - row.low) if cut else (row.high - row.low) / 2
    error = half / z_value(0.95)
    mean = Mean(cell.value, error if cell.se is None else cell.se)
    return Comparison(cell, row, items, agree(Mean(row.value, error), mean), main=True)


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
    judged = any(map(is_win_rate, metrics))
    found = [cell for cell in cells if cell.metric in metrics or (judged and is_win_rate(cell.metric))]
    if not found and any(is_win_rate(cell.metric) for cell in cells):
        raise UserError(
            f"{run.folder} has not been judged, and a judge made what was published: 'tulu-eval judge {run.folder}'"
        )
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
    return ""


def _untested(run: Finished, cell: PublishedCell) -> list[Untested]:
    """Returns what other judges gave and no calibration brings to the published scale, a row a judge."""
    if not is_win_rate(cell.metric):
        return []
    compared = {row.scorer for row in _rows(run, cell)}
    rows: dict[str, Result] = {}
    for row in run.results:  # of a judge's rows the length-controlled one is first
        if row.metric in (cell.metric, "win_rate") and row.scorer not in compared:
            rows.setdefault(row.scorer, row)
    return [Untested(cell, row, _why_untested(run, cell, row)) for row in rows.values()]


def _why_untested(run: Finished, cell: PublishedCell, row: Result) -> str:
    if row.metric != cell.metric:
        return f"there is no {cell.metric}, for {row.n} of {row.n_protocol} have a preference"
    scale = f"the published number is {ORIGINAL_JUDGE}'s, and another judge is another scale"
    if (judged := parts(row.signature)).get("judge") == ORIGINAL_JUDGE:
        wanted, against_whom = published_parts()["b"], judged.get("b", NOT_RECORDED)
        return f"the published number is against {wanted}, and this one is {row.scorer}, its baseline {against_whom}"
    calibrated = [one for one in run.results if one.metric.endswith(CALIBRATED) and one.scorer == row.scorer]
    if not calibrated:
        return f"{scale}; 'tulu-eval calibrate-judge' measures how the two relate"
    if cell.metric != "win_rate":
        return f"{scale}; its calibration maps the raw win rate, not the length-controlled one"
    return f"{scale}; its calibration stands on one model, so how far it shifts from model to model is not known"


def _rows(run: Finished, cell: PublishedCell) -> list[Result]:
    """Returns the first row, which is that of the published scorer, of each protocol that contains the cell's items.

    Of win rates these are the original judge's; where there is none, those that a calibration brings to its scale.
    """
    wanted = run.members(cell.protocol)
    covering = [row for row in run.results if wanted and wanted <= run.members(row.protocol)]
    if not is_win_rate(cell.metric):
        rows: dict[str, Result] = {}
        for row in covering:
            if row.metric == cell.metric:
                rows.setdefault(row.protocol, row)
        return list(rows.values())
    original = [row for row in covering if row.metric == cell.metric and by_original_judge(row)]
    mapped = [row for row in covering if row.metric == cell.metric + CALIBRATED and maps_to_published(row)]
    return original or mapped


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
