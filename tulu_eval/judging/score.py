"""What judgments add up to: raw win rate, length-controlled win rate, their intervals, and an account of all 805.

LC stands on all 805 instructions. With fewer there is none, and the score says why; asked for all the same (``partial``), it is
marked. Another judge makes another number, so judge, method and prompt go with it.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tulu_eval.benchmarks.alpaca_set import SIZE
from tulu_eval.errors import UserError
from tulu_eval.judging.gamed import GamedFile
from tulu_eval.judging.judge import FAILURES
from tulu_eval.judging.judged import Judge, Judged
from tulu_eval.judging.recipe import ORIGINAL_JUDGE, PROMPT_SHA256
from tulu_eval.records import STATUSES, Result

if TYPE_CHECKING:
    from tulu_eval.stats.length_control import BootstrapInterval, Fit, FoldMode, Rows, WinRate

CALIBRATED = "_calibrated"
"""Ends the metric of a win rate that a calibration maps to the original judge's scale."""

_ORIGINAL = {f"judge:{ORIGINAL_JUDGE}", "by:logprobs", f"prompt:{PROMPT_SHA256[:8]}"}
"""Parts of the signature of a win rate that the judge behind the published ones gave, asked as it was."""

DRAWS = 1000
Z95 = 1.959963984540054
"""0.975 quantile of the normal distribution."""


@dataclasses.dataclass(frozen=True, slots=True)
class Score:
    """Win rates in percent, with everything that must go with them.

    Attributes:
        judge: Who decided.
        counts: Rows by kind; their sum is 805 unless rows are foreign to it.
        win_rate: Raw, over the rows with a preference.
        lc: The length-controlled fit; None where there is none.
        interval: Of LC, by a bootstrap that refits.
        why_no_lc: One line, where there is none.
        partial: Whether LC stands on fewer than 805 instructions.
        folds: Fold mode from which C was chosen.
        gamed: Which gamed rows: ``hub``, ``re-derived``, empty without LC.
        mean_characters: Mean length of the model's outputs.
    """

    judge: Judge
    counts: Mapping[str, int]
    win_rate: WinRate
    lc: Fit | None
    interval: BootstrapInterval | None
    why_no_lc: str
    partial: bool
    folds: FoldMode
    gamed: str
    mean_characters: float

    @property
    def n(self) -> int:
        """Rows with a preference."""
        return self.win_rate.n_total

    @property
    def warning(self) -> str:
        """One line where LC is so far from the raw win rate that the fit may have failed (alpaca_eval's rule), else empty."""
        if self.lc is None:
            return ""
        raw, value = self.win_rate.win_rate, self.lc.value
        if value < min(raw - raw / 4, raw - 10) or value > max(raw + (100 - raw) / 4, raw + 10):
            return f"LC {value:.1f} is far from the raw win rate {raw:.1f}, which may be a failure of the fit"
        return ""

    def account(self) -> str:
        """Returns ``805 = judged + failed + identical`` with every class of failure that occurred."""
        failed = {kind: n for kind, n in self.counts.items() if kind not in ("judged", "identical") and n}
        names = f" ({', '.join(f'{kind} {n}' for kind, n in failed.items())})" if failed else ""
        total, judged, identical = sum(self.counts.values()), self.counts.get("judged", 0), self.counts.get("identical", 0)
        return f"{total} = {judged} judged + {sum(failed.values())} failed{names} + {identical} identical"


def score(
    rows: Sequence[Judged],
    judge: Judge,
    gamed: GamedFile | None,
    folds: FoldMode = "leaderboard",
    partial: bool = False,
    draws: int = DRAWS,
    same_model: bool = False,
) -> Score:
    """Scores judged rows.

    Args:
        rows: At most one an instruction, in the data set's order where LC is to be the published number.
        judge: Who decided.
        gamed: What LC needs beside them; None for the raw win rate alone.
        folds: Fold mode.
        partial: Whether LC may stand on fewer than 805.
        draws: Bootstrap resamples; 0 for no interval.
        same_model: Whether model and baseline are one, which makes LC 50 by construction.

    Raises:
        UserError: No row has a preference.
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
    why = _why_no_lc(raw.n_total, gamed, partial)
    lc, interval = None, None
    if not why and gamed is not None:
        try:
            lc = length_control.Fit(50.0, 0.0, length_control.Weights(0.0, 0.0, 0.0)) if same_model else None
            lc = lc or length_control.fit(given, gamed.gamed, folds)
            interval = length_control.bootstrap(given, gamed.gamed, lc.c, draws) if draws and not same_model else None
        except ValueError as error:
            lc, why = None, str(error)
    return Score(
        judge=judge,
        counts={kind: counts.get(kind, 0) for kind in dict.fromkeys(("judged", "identical", *FAILURES, "missing", "absent"))},
        win_rate=raw,
        lc=lc,
        interval=interval,
        why_no_lc=why,
        partial=raw.n_total < SIZE,
        folds=folds,
        gamed=gamed.source if lc and gamed else "",
        mean_characters=sum(row.output_characters for row in rows) / len(rows),
    )


def _why_no_lc(n: int, gamed: GamedFile | None, partial: bool) -> str:
    if n < SIZE and not partial:
        return f"only {n} of the {SIZE} instructions have a preference, and a subset has no length-controlled win rate"
    return "no df_gamed.csv was given" if gamed is None else ""


def arrays(rows: Sequence[Judged], gamed: GamedFile | None) -> Rows:
    """Returns what the statistics need of rows; difficulties are 0 where there are no gamed rows to give them."""
    import numpy as np

    from tulu_eval.stats.length_control import Rows

    preference = np.array([np.nan if row.preference is None else row.preference for row in rows], dtype=np.float64)
    difference = np.array([row.baseline_characters - row.output_characters for row in rows], dtype=np.float64)
    difficulty = np.zeros(len(rows)) if gamed is None else gamed.difficulty[[row.place for row in rows]]
    return Rows(preference, difference, difficulty)


def results(found: Score) -> tuple[Result, ...]:
    """Returns the numbers for tables: the length-controlled win rate where there is one, then the raw one."""
    raw = found.win_rate
    ok = found.counts["judged"] + found.counts["identical"]
    seen = {"ok": ok, "judge_error": sum(found.counts.values()) - ok}
    counts = {str(status): seen.get(status, 0) for status in STATUSES}
    numbers = [("win_rate", raw.win_rate, _normal(raw), "normal95" if raw.n_total > 1 else "none")]
    if found.lc is not None:
        ends = (found.interval.low, found.interval.high) if found.interval else (0.0, 100.0)
        method = f"bootstrap95-refit-{found.interval.draws}" if found.interval else "none"
        numbers.insert(0, ("lc_win_rate", found.lc.value, ends, method))
    judge, line = found.judge.label, signature(found)
    return tuple(
        Result("alpaca-eval", "published", judge, metric, value, found.n, SIZE, low, high, method, counts, line)
        for metric, value, (low, high), method in numbers
    )


def _normal(raw: WinRate) -> tuple[float, float]:
    """Returns the 95 % interval of the raw win rate; all of 0 to 100 where one row says nothing about spread."""
    if raw.n_total < 2:
        return 0.0, 100.0
    half = Z95 * raw.standard_error
    return max(0.0, raw.win_rate - half), min(100.0, raw.win_rate + half)


def signature(found: Score) -> str:
    """Returns one line, enough to repeat the numbers from the same judgments."""
    judge = found.judge
    parts = [
        f"alpaca-eval|n:{found.n}/{SIZE}",
        f"judge:{judge.name}",
        f"by:{judge.method}",
        f"prompt:{judge.prompt_sha256[:8] or '?'}",
    ]
    if found.lc is not None:
        parts += [f"lc:v1|folds:{found.folds}|C:{found.lc.c:.6g}|gamed:{found.gamed}"]
    return "|".join(parts)


def is_win_rate(metric: str) -> bool:
    """Whether a metric is a judge's, so that it means something only beside the judge's name."""
    return metric.removesuffix(CALIBRATED) in ("lc_win_rate", "win_rate")


def by_original_judge(row: Result) -> bool:
    """Whether a win rate is of the judge behind the published ones, asked as it was."""
    return set(row.signature.split("|")) >= _ORIGINAL


def calibrated_on_one_model(row: Result) -> bool:
    """Whether a calibrated win rate's interval lacks how far the judge shifts from model to model."""
    return row.signature.endswith(" of 1 model")
