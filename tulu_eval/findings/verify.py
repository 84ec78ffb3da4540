"""Does a run agree with what was published, and if not, which setting differs?

Every published number of the model and benchmark is compared with every row of the run that stands on its items: the row of the
same protocol, whose verdict counts, and beside it those of protocols that contain it (``full``).
"""

from __future__ import annotations

import dataclasses

from tulu_eval.errors import UserError
from tulu_eval.findings.audit import measured_flip_rate
from tulu_eval.findings.deviations import Setting, differences
from tulu_eval.findings.published_cells import published_of, unnamed_revision
from tulu_eval.judging.judge_recipe import ORIGINAL_JUDGE
from tulu_eval.judging.numbers import (
    CALIBRATED,
    NOT_RECORDED,
    by_original_judge,
    is_win_rate,
    maps_to_published,
    parts,
    published_parts,
)
from tulu_eval.records import Result
from tulu_eval.registry import Contradiction, Model, PublishedCell, Suite
from tulu_eval.runs.reading import StoredRun
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
class Allowance:
    """Share of items that may flip between two greedy runs of the same weights on the same items.

    Attributes:
        rate: Fraction of the items.
        items: Items of the comparison that it was used in.
        measured: Whether ``audit`` measured it on this run; else it is the general allowance.
    """

    rate: float
    items: int
    measured: bool


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
        allowance: Of flipped items, where a comparison used one.
        contradictions: Those of the published record that concern these cells.
        differences: Settings in which the run differs from the published recipe.
        conclusion: What the differences mean beside the verdicts, in one line.
        notes: What else must be said, one line each.
    """

    run: StoredRun
    model: Model
    same_weights: bool
    comparisons: tuple[Comparison, ...]
    untested: tuple[Untested, ...]
    beside: tuple[Result, ...]
    allowance: Allowance | None
    contradictions: tuple[Contradiction, ...]
    differences: tuple[Setting, ...]
    conclusion: str
    notes: tuple[str, ...]

    @property
    def inconsistent(self) -> bool:
        """Whether the run is inconsistent with any published number."""
        return any(one.main and one.agreement.verdict == "inconsistent" for one in self.comparisons)


def verify(run: StoredRun, suite: Suite, *, stand_in: str | None = None, partial: bool = False) -> Verification:
    """Compares a sound run with every published number of its model and benchmark.

    Args:
        run: The run.
        suite: The registry.
        stand_in: Name of the model whose numbers to compare with instead of the run's own; weights then count as others.
        partial: Compare a run that lacks items of the protocol: one that was limited, or the whole beginning of one that was
            stopped. What happened to finish first is never compared.

    Raises:
        UserError: If nothing was published of this, or the run has no row to compare with it.
    """
    if run.tally.unfinished and not partial:
        raise UserError(f"{run.folder}: {run.tally.unfinished}; the run's own command goes on from there{_beginning(run)}")
    published = published_of(run, suite, stand_in)
    comparisons: list[Comparison] = []
    untested: list[Untested] = []
    notes: list[str] = [*run.notes, *filter(None, (run.tally.unfinished, _revision_note(run)))]
    for cell in published.cells:
        untested += _untested(run, cell)
        if is_win_rate(cell.metric) and not _rows(run, cell):
            continue
        reason = _untestable(run, suite, cell)
        if reason:
            notes.append(f"{cell.printed} ({cell.source}): {reason}")
            continue
        rows = _rows(run, cell)
        usable = [row for row in rows if not row.partial] or (rows if partial else [])
        if not usable:
            raise UserError(f"{run.folder}: {_lacking(rows[0])}; --partial compares these {rows[0].n}")
        notes += [f"protocol {row.protocol}: {_lacking(row)}" for row in rows if not row.whole]
        if cell.se is None and not suite.metrics[cell.metric_key].counted:
            notes.append(f"{cell.printed} ({cell.source}) has no standard error; the run's own is taken for it too")
        found = [against(run, row, cell, suite, same_weights=published.same_weights) for row in usable]
        found.sort(key=lambda one: one.items != "same")
        comparisons += [dataclasses.replace(one, main=place == 0) for place, one in enumerate(found)]
    tried: list[Comparison | Untested] = [*comparisons, *untested]
    if not tried:
        raise UserError(f"{run.folder}: nothing to compare: {'; '.join(dict.fromkeys(notes))}")
    settings = differences(run, tried[0].row, tried[0].cell, published.model, published.same_weights)
    ids = {name for one in tried for name in one.cell.contradictions}
    return Verification(
        run=run,
        model=published.model,
        same_weights=published.same_weights,
        comparisons=tuple(comparisons),
        untested=tuple(untested),
        beside=_beside(run, comparisons),
        allowance=_allowance(run, comparisons),
        contradictions=tuple(entry for entry in suite.contradictions(published.model) if entry.id in ids),
        differences=settings,
        conclusion=_conclusion(settings, comparisons),
        notes=tuple(dict.fromkeys(notes)),
    )


def against(run: StoredRun, row: Result, cell: PublishedCell, suite: Suite, *, same_weights: bool) -> Comparison:
    """Compares one row with one published number; the caller has seen that it can be tested.

    Nobody knows whether the model is right where an engine or a judge failed: the verdict is the one that holds for all of them
    wrong, all of them right, and as many right as brings the row nearest to the published number; "cannot tell" where there is
    no such one.
    """
    items = _items(run, row, cell)
    counted = suite.metrics[cell.metric_key].counted and cell.n is not None

    def test(value: float, n: int) -> Agreement:
        if counted and cell.n is not None:
            measured, other = (Count(round(one * size / 100), size) for one, size in ((value, n), (cell.value, cell.n)))
            return agree(measured, other, items=items, same_weights=same_weights, flip_rate=_flip_rate(run))
        error = _error(row)
        return agree(Mean(value, error), Mean(cell.value, error if cell.se is None else cell.se))

    n = row.n if counted else row.n + row.failed  # a judge's failures are not among its n
    right = row.value * row.n / 100
    nearest = min(max(round(cell.value * n / 100 - right), 0), row.failed)
    found = {more: test(100 * (right + more) / n if row.failed else row.value, n) for more in (0, nearest, row.failed)}
    return Comparison(cell, row, items, _whatever_failed(found, row.failed), main=True)


def _whatever_failed(found: dict[int, Agreement], failed: int) -> Agreement:
    """Returns the agreement that holds however many of the failures are right: of several the one with the largest p-value.

    The difference is that of the value as it is shown, in which they are wrong.
    """
    likeliest = max(found.values(), key=lambda one: one.p_value)
    likeliest = dataclasses.replace(likeliest, difference=found[0].difference)
    if len({one.verdict for one in found.values()}) == 1:
        return likeliest
    verdicts = ", ".join(f"{one.verdict} with {right} of them right" for right, one in sorted(found.items()))
    return dataclasses.replace(likeliest, verdict="cannot tell", explanation=f"cannot tell: {failed} failed; {verdicts}")


def _error(row: Result) -> float:
    """Returns a row's standard error from its interval; a bound cut at 0 or 100 says nothing about spread."""
    cut = row.low <= 0.0 or row.high >= 100.0
    half = max(row.high - row.value, row.value - row.low) if cut else (row.high - row.low) / 2
    return half / z_value(0.95)


def _flip_rate(run: StoredRun) -> float:
    measured = measured_flip_rate(run)
    return FLIP_RATE if measured is None else measured


def _allowance(run: StoredRun, comparisons: list[Comparison]) -> Allowance | None:
    n = next((one.row.n for one in comparisons if one.agreement.method == "symmetric flips"), None)
    return None if n is None else Allowance(_flip_rate(run), n, measured_flip_rate(run) is not None)


def _conclusion(settings: tuple[Setting, ...], comparisons: list[Comparison]) -> str:
    inconsistent = any(one.main and one.agreement.verdict == "inconsistent" for one in comparisons)
    if not settings:
        close = " So none of them explains an inconsistent verdict." if inconsistent else ""
        return f"No setting in the manifest differs from the published recipe.{close}"
    suspects = [setting.name for setting in settings if not setting.noise]
    if not inconsistent:
        named = "The settings above differ though no verdict is inconsistent."
        return named if suspects else "What differs is noise by its nature."
    if suspects:
        return f"Noise does not explain an inconsistent verdict; look at {', '.join(suspects)} first."
    return "What differs is noise by its nature, and noise does not explain an inconsistent verdict."


def _beginning(run: StoredRun) -> str:
    """Returns what ``--partial`` would compare of an unfinished run."""
    row = next(iter(run.results), None)
    if row is None:
        return ". Nothing of it can be compared: the first item of its order is missing"
    return f". --partial compares the whole beginning of its order, {row.n} items"


def _revision_note(run: StoredRun) -> str:
    return (
        "the import names no revision, so whether these are the released weights is not known" if unnamed_revision(run) else ""
    )


def _untestable(run: StoredRun, suite: Suite, cell: PublishedCell) -> str:
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


def _untested(run: StoredRun, cell: PublishedCell) -> list[Untested]:
    """Returns what other judges gave and no calibration brings to the published scale, a row a judge."""
    if not is_win_rate(cell.metric):
        return []
    compared = {row.scorer for row in _rows(run, cell)}
    rows: dict[str, Result] = {}
    for row in run.results:  # of a judge's rows the length-controlled one is first
        if row.metric in (cell.metric, "win_rate") and row.scorer not in compared:
            rows.setdefault(row.scorer, row)
    return [Untested(cell, row, _why_untested(run, cell, row)) for row in rows.values()]


def _why_untested(run: StoredRun, cell: PublishedCell, row: Result) -> str:
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


def _rows(run: StoredRun, cell: PublishedCell) -> list[Result]:
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


def _items(run: StoredRun, row: Result, cell: PublishedCell) -> Items:
    if row.partial:
        return "other"
    if row.n == cell.n:
        return "same"
    return "superset" if cell.n == len(run.members(cell.protocol)) < row.n else "other"


def _lacking(row: Result) -> str:
    parts = [f"{row.n} of {row.n_protocol} items are there"] if row.partial else []
    failed = [f"{row.failed} of {row.n} failed, so nobody knows whether the model has them right"] if row.failed else []
    return ", and ".join([*parts, *failed])


def _beside(run: StoredRun, comparisons: list[Comparison]) -> tuple[Result, ...]:
    compared = {(one.row.protocol, one.row.metric) for one in comparisons}
    main = [one.row for one in comparisons]
    return tuple(row for row in run.results if (row.protocol, row.metric) in compared and row not in main)
