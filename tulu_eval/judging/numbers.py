"""A score as rows of a table, each with its signature, and what a row's signature says of it.

A signature is enough to repeat a row from the same judgments::

    alpaca-eval|n:805/805|judge:gpt-4-1106-preview|by:logprobs|prompt:784227e6|b:gpt4_1106_preview@170a7549
    |lc:v1|folds:leaderboard|C:2.78256|gamed:hub

``b`` is the baseline, known by its outputs; folders of versions that did not record it have none, and are never given one.
``sides:exchanged``: rows were written with the model as ``output_1``. ``places:rows``: difficulties went by row number, and not
all rows were in order. ``folds:none``: C was given and not chosen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tulu_eval.benchmarks.alpaca_baselines import known
from tulu_eval.benchmarks.alpaca_set import SIZE
from tulu_eval.judging.judge_recipe import ORIGINAL_JUDGE, PROMPT_SHA256
from tulu_eval.judging.judged import Judge
from tulu_eval.judging.win_rates import DRAWS, LARGEST_C, NO_VERDICT, SMALLEST_C, Score
from tulu_eval.records import STATUSES, Result

if TYPE_CHECKING:
    from tulu_eval.stats.length_control import FoldMode, WinRate

Z95 = 1.959963984540054
"""0.975 quantile of the normal distribution."""

CALIBRATED = "_calibrated"
"""Ends the metric of a win rate that a calibration maps to the original judge's scale."""

NOT_RECORDED = "not recorded"

_ODD = ("sides", "places")
"""Parts that are in a signature only where something was not done as behind the published numbers."""


@dataclasses.dataclass(frozen=True, slots=True)
class JudgeSettings:
    """How a stored row was made of its judgments, read from its signature.

    Attributes:
        lc: Whether there is a length-controlled win rate.
        partial: Whether it stands on fewer than 805.
        folds: Fold mode.
        c: Regularisation constant, where it was given.
        draws: Bootstrap resamples.
        gamed: Which gamed rows: ``hub``, ``re-derived``, empty without LC.
        positional: Whether difficulties went by row number.
    """

    lc: bool
    partial: bool
    folds: FoldMode
    c: float | None
    draws: int
    gamed: str
    positional: bool


def published_parts() -> dict[str, str]:
    """Returns the parts of the signature of a win rate that was made as the published ones were."""
    return {"judge": ORIGINAL_JUDGE, "by": "logprobs", "prompt": PROMPT_SHA256[:8], "b": known()[0].baseline.label}


def parts(signature: str) -> dict[str, str]:
    """Returns a signature's parts by name."""
    return dict(part.split(":", 1) for part in signature.split("|") if ":" in part)


def results(found: Score, as_before: bool = False) -> tuple[Result, ...]:
    """Returns the numbers for tables: the length-controlled win rate where there is one, then the raw one.

    Args:
        found: The score.
        as_before: Count and span as versions did that recorded no baseline: all that has no preference was a failure of the
            judge, what is absent included, and no interval spanned failures. Only to check what such a version wrote.
    """
    ok = found.counts["judged"] + found.counts["identical"]
    errors, silent = (sum(found.counts.values()) - ok, 0) if as_before else (found.errors, found.counts[NO_VERDICT])
    seen = {"ok": ok, "judge_error": errors, "no_answer": silent}
    counts = {str(status): seen.get(status, 0) for status in STATUSES}
    raw = found.win_rate
    spanned = "+failures" if found.errors and not as_before else ""
    ends = _normal(raw) if as_before else (_normal(found.worst)[0], _normal(found.best)[1])
    numbers = [("win_rate", raw.win_rate, ends, f"normal95{spanned}" if raw.n_total > 1 else "none")]
    if found.lc is not None:
        ends = (found.interval.low, found.interval.high) if found.interval else (0.0, 100.0)
        method = f"bootstrap95-refit-{found.interval.draws}{spanned}" if found.interval else "none"
        numbers.insert(0, ("lc_win_rate", found.lc.value, ends, method))
    scorer, line = label(found), signature(found)
    return tuple(
        Result("alpaca-eval", "published", scorer, metric, value, found.n, SIZE, found.n, low, high, method, counts, line)
        for metric, value, (low, high), method in numbers
    )


def _normal(raw: WinRate) -> tuple[float, float]:
    """Returns the 95 % interval of a raw win rate; all of 0 to 100 where one row says nothing about spread."""
    if raw.n_total < 2:
        return 0.0, 100.0
    half = Z95 * raw.standard_error
    return max(0.0, raw.win_rate - half), min(100.0, raw.win_rate + half)


def label(found: Score) -> str:
    """Returns what a score is filed under: its judge, and all that keeps it off the published scale."""
    terms = found.terms
    odd = [
        f"against {terms.baseline.label}" if terms.baseline is not None and not terms.baseline.published else "",
        "sides exchanged" if terms.exchanged else "",
        "difficulties by row" if terms.positional else "",
        f"C = {found.lc.c!r}" if found.c_given and found.lc is not None else "",
    ]
    return ", ".join([terms.judge.label, *filter(None, odd)])


def signature(found: Score) -> str:
    """Returns one line, enough to repeat the numbers from the same judgments."""
    terms = found.terms
    line = [f"alpaca-eval|n:{found.n}/{SIZE}", *judge_parts(terms.judge)]
    line += [f"b:{terms.baseline.label}"] if terms.baseline is not None else []
    line += ["sides:exchanged"] if terms.exchanged else []
    line += ["places:rows"] if terms.positional else []
    if found.lc is not None:
        chosen = f"folds:none|C:{found.lc.c!r}" if found.c_given else f"folds:{found.folds}|C:{found.lc.c:.6g}"
        line += [f"lc:v1|{chosen}|gamed:{found.gamed}"]
    return "|".join(line)


def judge_parts(judge: Judge) -> list[str]:
    """Returns the parts of a signature that say who judged and how; a name must not look like other parts."""
    return [
        f"judge:{judge.name.replace('|', '_')}",
        f"by:{judge.method.replace('|', '_')}",
        f"prompt:{judge.prompt_sha256[:8] or '?'}",
    ]


def settings_of(rows: Sequence[Result]) -> JudgeSettings:
    """Returns how the rows of one score were made.

    Raises:
        ValueError: Their signatures or intervals are not of this form.
    """
    if not all(isinstance(text, str) for row in rows for text in (row.metric, row.interval, row.signature)):
        raise ValueError("a metric, an interval's method or a signature is not text")
    raw = next((row for row in rows if row.metric == "win_rate"), None)
    lc = next((row for row in rows if row.metric == "lc_win_rate"), None)
    if raw is None:
        raise ValueError("there is no win_rate among the rows")
    found = parts(raw.signature)
    positional = found.get("places") == "rows"
    if lc is None:
        return JudgeSettings(False, False, "leaderboard", None, 0, "", positional)
    how = found.get("folds", "")
    if how not in ("leaderboard", "stable", "none"):
        raise ValueError(f"folds {how!r} are not known")
    draws = 0 if lc.interval == "none" else int(lc.interval.removesuffix("+failures").removeprefix("bootstrap95-refit-"))
    c = float(found["C"]) if how == "none" else None
    if not 0 <= draws <= DRAWS or not (c is None or SMALLEST_C <= c <= LARGEST_C):
        raise ValueError(f"no row is made with {draws} resamples and C = {c}")
    return JudgeSettings(
        True, lc.n < SIZE, "stable" if how == "stable" else "leaderboard", c, draws, found.get("gamed", ""), positional
    )


def is_win_rate(metric: str) -> bool:
    """Whether a metric is a judge's, so that it means something only beside the judge's name."""
    return metric.removesuffix(CALIBRATED) in ("lc_win_rate", "win_rate")


def by_original_judge(row: Result) -> bool:
    """Whether a win rate is of the judge behind the published ones, asked as it was, against the published baseline."""
    found = parts(row.signature)
    as_published = all(found.get(name) == value for name, value in published_parts().items())
    return as_published and not any(name in found for name in _ODD) and found.get("folds") != "none"


def other_scale(row: Result) -> str:
    """Returns what a win rate is filed under where it is not on the published ones' scale; empty where it is, or is none."""
    if not is_win_rate(row.metric) or by_original_judge(row):
        return ""
    return row.scorer if "b" in parts(row.signature) else f"{row.scorer}, baseline {NOT_RECORDED}"


def maps_to_published(row: Result) -> bool:
    """Whether a calibrated win rate is on the published scale.

    Its baseline has to be the published one, and its calibration to stand on several models: with one, the interval lacks how
    far the judge shifts from model to model.
    """
    return parts(row.signature).get("b") == published_parts()["b"] and not row.signature.endswith(" of 1 model")
