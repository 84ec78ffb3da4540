"""Scores judgments: raw win rate, length-controlled win rate, their intervals, and an account of all 805 rows.

LC needs all 805 instructions. With fewer there is no LC, and the score gives the reason; with ``partial`` there is one, marked
as partial. The number depends on judge, method, prompt and baseline, so the score carries these.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tulu_eval.benchmarks.alpaca_set import SIZE
from tulu_eval.errors import UserError
from tulu_eval.judging.gamed import GamedFile, load_gamed
from tulu_eval.judging.judge import FAILURES
from tulu_eval.judging.judged import Judge, Judged, Terms

if TYPE_CHECKING:
    from tulu_eval.stats.length_control import BootstrapInterval, Fit, FoldMode, JudgedRows, WinRate

DRAWS = 1000
NO_VERDICT = "no_verdict"
"""The judge answered but named neither output. The published recipe drops such a row; it is an answer, not a failure."""

ERRORS = (*(kind for kind in FAILURES if kind != NO_VERDICT), "missing")
"""Kinds of rows in which the judge failed; either verdict was possible, so intervals span both."""

SMALLEST_C, LARGEST_C = 1e-4, 1e4
"""Ends of the grid ``tulu_eval.stats.length_control.CS``, which this module does not import because it needs numpy."""

SMALLEST_PUBLISHED_C = 2.782559402207126
"""The smallest regularisation constant of 56 rows of the public leaderboard, derived from the fit's stationarity in the bias
(tatsu-lab/alpaca_eval @ cd543a14: 28 rows have it, 19 have 21.5, 5 have 166.8, 1 has 1292, 3 have 10000)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Scoring:
    """The settings of a score.

    Attributes:
        gamed: A copy of ``df_gamed.csv``; ``None`` fetches the pinned file.
        folds: Folds of the cross-validation that chooses C.
        partial: Whether LC may use fewer than 805 instructions.
        draws: Number of bootstrap resamples; 0 for no interval.
        c: Regularisation constant of LC; ``None``: cross-validation chooses it.
    """

    gamed: Path | None = None
    folds: FoldMode = "leaderboard"
    partial: bool = False
    draws: int = DRAWS
    c: float | None = None

    def load_gamed(self, n: int) -> GamedFile | None:
        """Returns the gamed rows if LC is possible with ``n`` preferences, else ``None``."""
        return load_gamed(self.gamed) if n == SIZE or self.partial else None


AS_PUBLISHED = Scoring()
"""The settings of the published numbers, with an interval."""


@dataclasses.dataclass(frozen=True, slots=True)
class Score:
    """Win rates in percent with their terms, counts, intervals and settings.

    Attributes:
        counts: Number of rows by kind; the sum is 805 if there is at most one row per instruction.
        win_rate: Raw win rate over the rows with a preference.
        worst: Raw win rate if the model loses every row on which the judge failed.
        best: Raw win rate if the model wins every row on which the judge failed.
        lc: The length-controlled fit; ``None`` if there is none.
        interval: Interval of LC by a bootstrap that refits; it spans failed rows as ``worst`` and ``best`` do.
        grid: The fit for every constant of the grid, ascending in C; empty without LC.
        why_no_lc: One line that says why there is no LC; empty if there is one.
        partial: Whether LC uses fewer than 805 instructions.
        gamed: Source of the gamed rows: ``hub``, ``re-derived``, empty without LC.
    """

    terms: Terms
    counts: Mapping[str, int]
    win_rate: WinRate
    worst: WinRate
    best: WinRate
    lc: Fit | None
    interval: BootstrapInterval | None
    grid: tuple[Fit, ...]
    why_no_lc: str
    partial: bool
    scoring: Scoring
    gamed: str
    mean_characters: float

    @property
    def judge(self) -> Judge:
        """The judge."""
        return self.terms.judge

    @property
    def n(self) -> int:
        """Number of rows with a preference."""
        return self.win_rate.n_total

    @property
    def errors(self) -> int:
        """Number of rows in which the judge failed."""
        return sum(self.counts[kind] for kind in ERRORS)

    @property
    def lc_range(self) -> tuple[float, float] | None:
        """Smallest and largest LC over the constants of published rows, 2.78 to 10000; ``None`` without LC."""
        values = [fit.value for fit in self.grid if fit.c >= SMALLEST_PUBLISHED_C * (1 - 1e-9)]
        return (min(values), max(values)) if values else None

    @property
    def warning(self) -> str:
        """One line if LC is so far from the raw win rate that the fit may have failed (alpaca_eval's rule), else empty."""
        if self.lc is None:
            return ""
        raw, value = self.win_rate.win_rate, self.lc.value
        if value < min(raw - raw / 4, raw - 10) or value > max(raw + (100 - raw) / 4, raw + 10):
            return f"LC {value:.1f} is far from the raw win rate {raw:.1f}, which may be a failure of the fit"
        return ""

    def account(self) -> str:
        """Returns ``805 = judged + failed + identical`` with the classes of failure, rows without a verdict and absent rows."""
        counts = self.counts
        failed = {kind: counts[kind] for kind in ERRORS if counts[kind]}
        names = f" ({', '.join(f'{kind} {n}' for kind, n in failed.items())})" if failed else ""
        total, identical = sum(counts.values()), counts["identical"]
        parts = [f"{total} = {counts['judged']} judged + {self.errors} failed{names} + {identical} identical"]
        parts += [f"{counts[NO_VERDICT]} without a verdict"] if counts[NO_VERDICT] else []
        parts += [f"{counts['absent']} absent"] if counts["absent"] else []
        return " + ".join(parts)


def score(rows: Sequence[Judged], terms: Terms, gamed: GamedFile | None, scoring: Scoring = AS_PUBLISHED) -> Score:
    """Scores judged rows.

    ``rows`` has at most one per instruction, to reproduce the published LC in the data set's order; ``gamed`` is ``None`` for
    the raw win rate only.

    Raises:
        UserError: If no row has a preference.
    """
    from tulu_eval.stats import length_control

    rows = sorted(rows, key=lambda row: row.place)
    given = arrays(rows, gamed)
    try:
        raw = length_control.win_rate(given.preference)
    except ValueError as error:
        kinds = ", ".join(f"{kind} {n}" for kind, n in Counter(row.kind for row in rows).items())
        raise UserError(f"there is nothing to score: {error} ({kinds})") from error
    counts = Counter(row.kind for row in rows)
    if len(rows) < SIZE:
        counts["absent"] = SIZE - len(rows)
    why = _why_no_lc(raw.n_total, gamed, scoring.partial) if terms.edition.lc else f"{terms.edition.title} has none"
    lc, interval = None, None
    grid: tuple[Fit, ...] = ()
    ways = _both_ways(rows, given)
    if not why and gamed is not None:
        try:
            lc, interval, grid = _length_controlled(rows, (given, *ways), gamed, scoring)
        except ValueError as error:
            why = str(error)
    every = dict.fromkeys(("judged", "identical", *FAILURES, "missing", "absent"))
    return Score(
        terms=terms,
        counts={kind: counts.get(kind, 0) for kind in every},
        win_rate=raw,
        worst=length_control.win_rate(ways[0].preference),
        best=length_control.win_rate(ways[-1].preference),
        lc=lc,
        interval=interval,
        grid=grid,
        why_no_lc=why,
        partial=raw.n_total < SIZE,
        scoring=scoring,
        gamed=gamed.source if lc and gamed else "",
        mean_characters=sum(row.output_characters for row in rows) / len(rows),
    )


def _length_controlled(
    rows: Sequence[Judged], ways: tuple[JudgedRows, ...], gamed: GamedFile, scoring: Scoring
) -> tuple[Fit, BootstrapInterval | None, tuple[Fit, ...]]:
    """Returns LC, its interval and LC over the grid of C; a model with only the baseline's outputs has 50, as published.

    ``ways`` has the rows as they are, then what :func:`_both_ways` returns.
    """
    from tulu_eval.stats import length_control

    if all(row.kind == "identical" for row in rows):
        return length_control.Fit(50.0, 0.0, length_control.Weights(0.0, 0.0, 0.0)), None, ()
    given, *failed = ways
    lc = length_control.fit(given, gamed.gamed, scoring.folds, scoring.c)
    interval = None
    if scoring.draws:
        ends = [length_control.bootstrap(one, gamed.gamed, lc.c, scoring.draws) for one in failed]
        interval = ends[0]._replace(high=ends[-1].high)
    return lc, interval, length_control.over_grid(given, gamed.gamed)


def _both_ways(rows: Sequence[Judged], given: JudgedRows) -> tuple[JudgedRows, ...]:
    """Returns the rows with every failed row lost, and with every failed row won; the rows alone if none failed."""
    import numpy as np

    failed = np.array([row.kind in ERRORS for row in rows])
    if not failed.any():
        return (given,)
    return tuple(dataclasses.replace(given, preference=np.where(failed, value, given.preference)) for value in (1.0, 2.0))


def _why_no_lc(n: int, gamed: GamedFile | None, partial: bool) -> str:
    if n < SIZE and not partial:
        return f"only {n} of the {SIZE} instructions have a preference, and a subset has no length-controlled win rate"
    return "no df_gamed.csv was given" if gamed is None else ""


def arrays(rows: Sequence[Judged], gamed: GamedFile | None) -> JudgedRows:
    """Returns the arrays for the statistics, each of shape (rows,); difficulties are 0 without gamed rows."""
    import numpy as np

    from tulu_eval.stats.length_control import JudgedRows

    preference = np.array([np.nan if row.preference is None else row.preference for row in rows], dtype=np.float64)
    difference = np.array([row.baseline_characters - row.output_characters for row in rows], dtype=np.float64)
    difficulty = np.zeros(len(rows)) if gamed is None else gamed.difficulty[[row.place for row in rows]]
    return JudgedRows(preference, difference, difficulty)
