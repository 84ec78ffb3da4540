"""Does a run agree with what was published, and if not, which setting differs?

Every published number of the model and benchmark is compared with every row of the run that covers its items: with the row of
the same protocol, whose verdict counts, and with the rows of protocols that contain it (``full``).
"""

from __future__ import annotations

import dataclasses
import shlex

from tulu_eval.errors import UserError
from tulu_eval.findings.audit import Allowance, allowance
from tulu_eval.findings.deviations import Setting, differences
from tulu_eval.findings.published_cells import published_of, rows_for, unnamed_revision
from tulu_eval.judging import numbers
from tulu_eval.judging.judge_recipe import ALPACA_EVAL_1, edition_of
from tulu_eval.judging.numbers import CALIBRATED, edition_of_metric, is_win_rate
from tulu_eval.records import Result
from tulu_eval.registry import Contradiction, Model, PublishedCell, Suite
from tulu_eval.runs.reading import StoredRun
from tulu_eval.stats import Agreement, Count, Mean, agree, wilson
from tulu_eval.stats.agreement import Items
from tulu_eval.stats.intervals import z_value


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """One row of a run, compared with one published number.

    Attributes:
        items: How the row's items relate to the published ones.
        main: Whether this is the verdict on the published number; a number has one such comparison.
    """

    cell: PublishedCell
    row: Result
    items: Items
    agreement: Agreement
    main: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Untested:
    """A published win rate and a run's win rate on another scale: the verdict is "cannot tell", without a test.

    Attributes:
        row: The run's row, by another judge or against another baseline.
        reason: Why the two cannot be compared.
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
    """The result of :func:`verify`.

    Attributes:
        same_weights: Whether the run measured that model's released weights.
        comparisons: For each published number the main comparison first.
        untested: Win rates on another scale than the published ones.
        beside: Rows of other scorers on the same items; they are compared with nothing.
        allowance: ``None`` if no comparison used it.
        contradictions: Contradictions of the published record that concern these numbers.
        differences: Settings in which the run differs from the published recipe.
        conclusion: What the differences mean for the verdicts, in one line.
        next_step: Command that finds the setting behind an inconsistent verdict, with its cost; empty for none.
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
    next_step: str = ""

    @property
    def inconsistent(self) -> bool:
        """Whether the run is inconsistent with any published number."""
        return any(one.main and one.agreement.verdict == "inconsistent" for one in self.comparisons)


def verify(run: StoredRun, suite: Suite, *, stand_in: str | None = None, partial: bool = False) -> Verification:
    """Compares a sound run with every published number of its model and benchmark.

    ``stand_in`` names a model with whose numbers to compare instead of the run's own; the weights then count as different.
    ``partial`` compares a run that lacks items of the protocol: a limited run, or the complete beginning of a stopped one.
    Samples that happened to finish first are never compared.

    Raises:
        UserError: If no number was published for the run, or no row of the run can be compared with one.
    """
    if run.tally.unfinished and not partial:
        raise UserError(f"{run.folder}: {run.tally.unfinished}; the run's own command goes on from there{_beginning(run)}")
    published = published_of(run, suite, stand_in)
    comparisons: list[Comparison] = []
    untested: list[Untested] = []
    unnamed = "the import names no revision, so whether these are the released weights is not known"
    notes = [*run.notes, *filter(None, (run.tally.unfinished, unnamed if unnamed_revision(run) else ""))]
    for cell in published.cells:
        rows = rows_for(run, suite, cell)
        if is_win_rate(cell.metric):
            untested += _on_other_scales(run, cell, {row.scorer for row in rows})
            if not rows:
                continue
        if reason := _why_no_test(run, suite, cell, rows):
            notes.append(f"{cell.printed} ({cell.source}): {reason}")
            continue
        usable = [row for row in rows if not row.partial] or (rows if partial else [])
        if not usable:
            raise UserError(f"{run.folder}: {_lacking(rows[0])}; --partial compares these {rows[0].n}")
        notes += [f"protocol {row.protocol}: {_lacking(row)}" for row in rows if not row.whole]
        if suite.metrics[cell.metric_key].draws:
            notes.append(f"which {cell.n} items {cell.printed} ({cell.source}) is of is not known; they count as another draw")
        if _published_error(suite, cell) is None and not _is_count(suite, cell, rows[0]):
            notes.append(f"{cell.printed} ({cell.source}) has no standard error; the run's own is taken for it too")
        found = [against(run, row, cell, suite, same_weights=published.same_weights) for row in usable]
        found.sort(key=lambda one: one.items != "same")
        comparisons += [dataclasses.replace(one, main=place == 0) for place, one in enumerate(found)]
    tried: list[Comparison | Untested] = [*comparisons, *untested]
    if not tried:
        raise UserError(f"{run.folder}: nothing to compare: {'; '.join(dict.fromkeys(notes))}")
    row, cell = tried[0].row, tried[0].cell
    settings = differences(run, row, cell, suite.metrics[cell.metric_key], published.model, published.same_weights)
    ids = {name for one in tried for name in one.cell.contradictions}
    return Verification(
        run=run,
        model=published.model,
        same_weights=published.same_weights,
        comparisons=tuple(comparisons),
        untested=tuple(untested),
        beside=_beside(run, comparisons),
        allowance=next((allowance(run, one.row.n) for one in comparisons if one.agreement.method == "symmetric flips"), None),
        contradictions=tuple(entry for entry in suite.contradictions(published.model) if entry.id in ids),
        differences=settings,
        conclusion=_conclusion(settings, comparisons),
        notes=tuple(dict.fromkeys(notes)),
        next_step=_next_step(run, comparisons, stand_in),
    )


def against(run: StoredRun, row: Result, cell: PublishedCell, suite: Suite, *, same_weights: bool) -> Comparison:
    """Compares one row with one published number that has a test.

    Nobody knows whether the model is right on items where an engine or a judge failed. The verdict is the one that holds if all
    of these are wrong, if all are right, and if the row is as near to the published number as they allow; "cannot tell" if
    these verdicts differ.
    """
    items = _items(run, suite, row, cell)
    counted = _is_count(suite, cell, row) and cell.n is not None

    def test(value: float, n: int) -> Agreement:
        if counted and cell.n is not None:
            measured, other = (Count(round(one * size / 100), size) for one, size in ((value, n), (cell.value, cell.n)))
            return agree(measured, other, items=items, same_weights=same_weights, flip_rate=allowance(run, n).rate)
        error, published = _error(row.value, row.low, row.high), _published_error(suite, cell)
        return agree(Mean(value, error), Mean(cell.value, error if published is None else published))

    n = row.n if counted else row.n + row.failed  # a judge's failures are not among its n
    right = row.value * row.n / 100
    nearest = min(max(round(cell.value * n / 100 - right), 0), row.failed)
    found = {more: test(100 * (right + more) / n if row.failed else row.value, n) for more in (0, nearest, row.failed)}
    return Comparison(cell, row, items, _whatever_failed(found, row.failed), main=True)


def _whatever_failed(found: dict[int, Agreement], failed: int) -> Agreement:
    """Returns the agreement that holds for any number of right failures: the one with the largest p-value.

    Its difference is that of the printed value, which counts failures as wrong.
    """
    likeliest = max(found.values(), key=lambda one: one.p_value)
    likeliest = dataclasses.replace(likeliest, difference=found[0].difference)
    if len({one.verdict for one in found.values()}) == 1:
        return likeliest
    verdicts = ", ".join(f"{one.verdict} with {right} of them right" for right, one in sorted(found.items()))
    return dataclasses.replace(likeliest, verdict="cannot tell", explanation=f"cannot tell: {failed} failed; {verdicts}")


def _error(value: float, low: float, high: float) -> float:
    """Returns a standard error from a 95 % interval in percent; ignores a bound at 0 or 100, which was cut."""
    cut = low <= 0.0 or high >= 100.0
    half = max(high - value, value - low) if cut else (high - low) / 2
    return half / z_value(0.95)


def _published_error(suite: Suite, cell: PublishedCell) -> float | None:
    """Returns a published number's standard error: its own, else that of a share of its items; ``None`` if it is neither.

    For a mean over groups with as many items each, which is a share too, the share's is the larger one.
    """
    if cell.se is not None or cell.n is None or not suite.metrics[cell.metric_key].counted:
        return cell.se
    low, high = wilson(round(cell.value * cell.n / 100), cell.n)
    return _error(cell.value, 100 * low, 100 * high)


def _next_step(run: StoredRun, comparisons: list[Comparison], stand_in: str | None) -> str:
    """Returns the command that looks for the setting behind an inconsistent number, and what it costs; empty for none."""
    wrong = next((one for one in comparisons if one.main and one.agreement.verdict == "inconsistent"), None)
    if wrong is None or not wrong.row.is_share or wrong.cell.n is None or (run.manifest.protocol.samples or 1) > 1:
        return ""
    named = f" --as {stand_in}" if stand_in else ""
    free = f"tulu-eval explain {shlex.quote(str(run.folder))}{named} --max-items 0"
    if run.imported:
        return f"{free} (free: reads the texts that are there)"
    return f"{free} (free; without --max-items it generates at most a quarter of {wrong.row.n} items per setting)"


def _conclusion(settings: tuple[Setting, ...], comparisons: list[Comparison]) -> str:
    inconsistent = any(one.main and one.agreement.verdict == "inconsistent" for one in comparisons)
    if not settings:
        close = " So none of them explains an inconsistent verdict." if inconsistent else ""
        return f"No setting in the manifest differs from the published recipe.{close}"
    suspects = [setting.name for setting in settings if not setting.noise]
    if not suspects:
        more = ", and noise does not explain an inconsistent verdict" if inconsistent else ""
        return f"What differs is noise by its nature{more}."
    if inconsistent:
        return f"Noise does not explain an inconsistent verdict; look at {', '.join(suspects)} first."
    return "The settings above differ though no verdict is inconsistent."


def _beginning(run: StoredRun) -> str:
    """Returns the end of the message about an unfinished run: what ``--partial`` would compare."""
    row = next(iter(run.results), None)
    if row is None:
        return ". Nothing of it can be compared: the first item of its order is missing"
    return f". --partial compares the whole beginning of its order, {row.n} items"


def _why_no_test(run: StoredRun, suite: Suite, cell: PublishedCell, rows: list[Result]) -> str:
    """Returns why a published number has no test with these rows of the run; empty if it has one."""
    if not rows:
        return f"its items are those of protocol {cell.protocol}, and the run has protocol {run.manifest.protocol.name}"
    if _is_count(suite, cell, rows[0]):
        return "" if cell.n is not None else "the number of items behind it is not known; 'n' of the cell can say it"
    if cell.unit != "percent":
        return f"a number in {cell.unit} has no test here"
    if rows[0].interval == "none":
        return "the run's number has no interval"
    if rows[0].interval.startswith("clustered") and rows[0].failed:
        return f"{rows[0].failed} items failed, and how far they move a number that is no share of items is not known"
    return ""


def _is_count(suite: Suite, cell: PublishedCell, row: Result) -> bool:
    """Whether both numbers are shares of right items, which have exact tests; any other is a mean with a standard error."""
    return suite.metrics[cell.metric_key].counted and row.is_share


def _on_other_scales(run: StoredRun, cell: PublishedCell, compared: set[str]) -> list[Untested]:
    """Returns one win rate per scorer that is not in ``compared``."""
    rows: dict[str, Result] = {}
    edition = edition_of_metric(cell.metric)
    for row in run.results:  # of a judge's rows the length-controlled one is first
        same = edition is not None and row.metric in (cell.metric, edition.win_rate)
        if same and row.scorer not in compared:
            rows.setdefault(row.scorer, row)
    return [Untested(cell, row, _why_another_scale(run, cell, row)) for row in rows.values()]


def _why_another_scale(run: StoredRun, cell: PublishedCell, row: Result) -> str:
    if row.metric != cell.metric:
        return f"there is no {cell.metric}, for {row.n} of {row.n_protocol} have a preference"
    judged = numbers.parts(row.signature)
    published = numbers.published_parts(edition_of(judged.get("by", "")))
    scale = f"the published number is {published['judge']}'s, and another judge is another scale"
    if judged.get("judge") == published["judge"]:
        wanted, against_whom = published["b"], judged.get("b", numbers.NOT_RECORDED)
        return f"the published number is against {wanted}, and this one is {row.scorer}, its baseline {against_whom}"
    calibrated = [one for one in run.results if one.metric.endswith(CALIBRATED) and one.scorer == row.scorer]
    if cell.metric == ALPACA_EVAL_1.win_rate:
        return scale
    if not calibrated:
        return f"{scale}; 'tulu-eval calibrate-judge' measures how the two relate"
    if cell.metric != "win_rate":
        return f"{scale}; its calibration maps the raw win rate, not the length-controlled one"
    return f"{scale}; its calibration stands on one model, so how far it shifts from model to model is not known"


def _items(run: StoredRun, suite: Suite, row: Result, cell: PublishedCell) -> Items:
    if row.partial or suite.metrics[cell.metric_key].draws:
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
