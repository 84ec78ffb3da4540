"""Turns a score into rows of a table with signatures, and reads a row's settings from its signature.

A signature is enough to repeat a row from the same judgments::

    alpaca-eval|n:805/805|judge:gpt-4-1106-preview|by:logprobs|prompt:784227e6|b:gpt4_1106_preview@170a7549
    |lc:v1|folds:leaderboard|C:2.78256|gamed:hub

``b`` is the baseline, identified by its outputs; folders of versions that did not record it have none, and never get one.
``sides:exchanged``: rows were written with the model as ``output_1``. ``places:rows``: row numbers chose the difficulties, and
not all rows were in order. ``folds:none``: the user gave C, so cross-validation did not choose it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tulu_eval.benchmarks.alpaca_set import ALPACA_EVAL_2, SIZE
from tulu_eval.judging.judge_recipe import EDITIONS, Edition, edition_of
from tulu_eval.judging.judged import Judge
from tulu_eval.judging.win_rates import DRAWS, LARGEST_C, NO_VERDICT, SMALLEST_C, Score, Scoring
from tulu_eval.records import STATUSES, Result

if TYPE_CHECKING:
    from tulu_eval.stats.length_control import WinRate

Z95 = 1.959963984540054
"""0.975 quantile of the normal distribution."""

CALIBRATED = "_calibrated"
"""Suffix of the metric of a win rate that a calibration maps to the original judge's scale."""

NOT_RECORDED = "not recorded"

_ODD = ("sides", "places")
"""Parts of a signature that only occur if something deviates from the published numbers' procedure."""


@dataclasses.dataclass(frozen=True, slots=True)
class JudgeSettings:
    """The settings of a stored row, read from its signature.

    Attributes:
        scoring: Settings of the score, without a file of gamed rows; no resamples without LC.
        positional: Whether row numbers chose the difficulties.
        lc: Whether there is a length-controlled win rate.
        gamed: Source of the gamed rows: ``hub``, ``re-derived``, empty without LC.
    """

    scoring: Scoring
    positional: bool
    lc: bool = False
    gamed: str = ""


def published_parts(edition: Edition) -> dict[str, str]:
    """Returns the signature parts that a win rate on an edition's published scale has."""
    baseline = edition.baseline.baseline.label
    return {"judge": edition.judge, "by": edition.method, "prompt": edition.prompt_sha256[:8], "b": baseline}


def edition_of_metric(metric: str) -> Edition | None:
    """Returns the edition of AlpacaEval that a metric is a win rate of; ``None`` for any other metric."""
    plain = metric.removesuffix(CALIBRATED)
    return next((one for one in EDITIONS if plain == one.win_rate or (one.lc and plain == "lc_win_rate")), None)


def parts(signature: str) -> dict[str, str]:
    """Returns a signature's parts by name."""
    return dict(part.split(":", 1) for part in signature.split("|") if ":" in part)


def results(found: Score, as_before: bool = False) -> tuple[Result, ...]:
    """Returns the numbers for tables: the length-controlled win rate if there is one, then the raw one.

    Args:
        found: The score.
        as_before: Reproduce versions that recorded no baseline, only to check their files. They counted every row without a
            preference, even an absent one, as a failure of the judge, and their intervals did not span failures.
    """
    ok = found.counts["judged"] + found.counts["identical"]
    errors, silent = (sum(found.counts.values()) - ok, 0) if as_before else (found.errors, found.counts[NO_VERDICT])
    seen = {"ok": ok, "judge_error": errors, "no_answer": silent}
    counts = {str(status): seen.get(status, 0) for status in STATUSES if status != "unfinished_reasoning"}
    raw = found.win_rate
    spanned = "+failures" if found.errors and not as_before else ""
    ends = _normal(raw) if as_before else (_normal(found.worst)[0], _normal(found.best)[1])
    numbers = [(found.terms.edition.win_rate, raw.win_rate, ends, f"normal95{spanned}" if raw.n_total > 1 else "none")]
    if found.lc is not None:
        ends = (found.interval.low, found.interval.high) if found.interval else (0.0, 100.0)
        method = f"bootstrap95-refit-{found.interval.draws}{spanned}" if found.interval else "none"
        numbers.insert(0, ("lc_win_rate", found.lc.value, ends, method))
    scorer, line = label(found), signature(found)
    return tuple(
        Result("alpaca-eval", ALPACA_EVAL_2, scorer, metric, value, found.n, SIZE, found.n, low, high, method, counts, line)
        for metric, value, (low, high), method in numbers
    )


def _normal(raw: WinRate) -> tuple[float, float]:
    """Returns the 95 % interval of a raw win rate in percent; (0, 100) for a single row, which shows no spread."""
    if raw.n_total < 2:
        return 0.0, 100.0
    half = Z95 * raw.standard_error
    return max(0.0, raw.win_rate - half), min(100.0, raw.win_rate + half)


def label(found: Score) -> str:
    """Returns the name of a score: its judge, and every deviation that keeps it off the published scale."""
    terms = found.terms
    odd = [
        f"against {terms.baseline.label}" if terms.baseline is not None and not terms.published_baseline else "",
        "sides exchanged" if terms.exchanged else "",
        "difficulties by row" if terms.positional else "",
        f"C = {found.lc.c!r}" if found.scoring.c is not None and found.lc is not None else "",
    ]
    return ", ".join([terms.judge.label, *filter(None, odd)])


def signature(found: Score) -> str:
    """Returns one line from which the numbers can be repeated with the same judgments."""
    terms = found.terms
    line = [f"alpaca-eval|n:{found.n}/{SIZE}", *judge_parts(terms.judge)]
    line += [f"b:{terms.baseline.label}"] if terms.baseline is not None else []
    line += ["sides:exchanged"] if terms.exchanged else []
    line += ["places:rows"] if terms.positional else []
    if found.lc is not None:
        given, folds = found.scoring.c is not None, found.scoring.folds
        chosen = f"folds:none|C:{found.lc.c!r}" if given else f"folds:{folds}|C:{found.lc.c:.6g}"
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
    """Returns the settings of the rows of one score.

    Raises:
        ValueError: If their signatures or intervals do not have this form.
    """
    if not all(isinstance(text, str) for row in rows for text in (row.metric, row.interval, row.signature)):
        raise ValueError("a metric, an interval's method or a signature is not text")
    raw = next((row for row in rows if row.metric in [one.win_rate for one in EDITIONS]), None)
    lc = next((row for row in rows if row.metric == "lc_win_rate"), None)
    if raw is None:
        raise ValueError("there is no win_rate among the rows")
    found = parts(raw.signature)
    positional = found.get("places") == "rows"
    if lc is None:
        return JudgeSettings(Scoring(draws=0), positional)
    how = found.get("folds", "")
    if how not in ("leaderboard", "stable", "none"):
        raise ValueError(f"folds {how!r} are not known")
    draws = 0 if lc.interval == "none" else int(lc.interval.removesuffix("+failures").removeprefix("bootstrap95-refit-"))
    c = float(found["C"]) if how == "none" else None
    if not 0 <= draws <= DRAWS or not (c is None or SMALLEST_C <= c <= LARGEST_C):
        raise ValueError(f"no row is made with {draws} resamples and C = {c}")
    scoring = Scoring(folds="stable" if how == "stable" else "leaderboard", partial=lc.n < SIZE, draws=draws, c=c)
    return JudgeSettings(scoring, positional, lc=True, gamed=found.get("gamed", ""))


def is_win_rate(metric: str) -> bool:
    """Whether a metric is a judge's win rate, which is meaningless without the judge's name."""
    return edition_of_metric(metric) is not None


def by_original_judge(row: Result) -> bool:
    """Whether a win rate has the published ones' judge, method, prompt and baseline, without any deviation."""
    found = parts(row.signature)
    wanted = published_parts(edition_of(found.get("by", "")))
    as_published = all(found.get(name) == value for name, value in wanted.items())
    return as_published and not any(name in found for name in _ODD) and found.get("folds") != "none"


def other_scale(row: Result) -> str:
    """Returns the name of a win rate that is not on the published scale; empty for one that is, and for other metrics."""
    if not is_win_rate(row.metric) or by_original_judge(row):
        return ""
    return row.scorer if "b" in parts(row.signature) else f"{row.scorer}, baseline {NOT_RECORDED}"


def maps_to_published(row: Result) -> bool:
    """Whether a calibrated win rate is on the published scale.

    Its baseline must be the published one, and its calibration must cover several models: with one model, the interval does
    not include the judge's spread between models.
    """
    wanted = published_parts(edition_of(parts(row.signature).get("by", "")))["b"]
    return parts(row.signature).get("b") == wanted and not row.signature.endswith(" of 1 model")
