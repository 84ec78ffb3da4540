"""The report of a judge's scores, for people and as plain data."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from tulu_eval.errors import counted
from tulu_eval.judging.budget import Spent
from tulu_eval.judging.compare_outputs import OutputComparison
from tulu_eval.judging.session import JudgingOutcome
from tulu_eval.judging.win_rates import NO_VERDICT, SMALLEST_PUBLISHED_C, Score
from tulu_eval.records import Result

_WORDS = {
    "lc_win_rate": "length-controlled win rate",
    "win_rate": "raw win rate",
    "alpaca_eval_1_win_rate": "AlpacaEval 1 win rate",
    "win_rate_calibrated": "raw win rate on the original judge's scale, an estimate",
}


def as_text(found: Score, rows: Sequence[Result], flags: Sequence[str]) -> str:
    """Returns the account of all instructions, the numbers, the warnings, and the signatures."""
    from tabulate import tabulate

    body = [
        (_WORDS[row.metric], row.scorer, f"{row.value:.2f}", f"[{row.low:.1f}, {row.high:.1f}]", row.n, row.n_protocol)
        for row in rows
    ]
    header = ("number", "judge", "value", "95 % interval", "n", "of")
    aligned = ("left", "left", "right", "left", "right", "right")
    length = f"mean length of outputs {int(found.mean_characters):,} characters"  # cut off, as on the leaderboard
    lines = [f"{found.account()}; {length}", "", tabulate(body, headers=header, disable_numparse=True, colalign=aligned)]
    lines += [grid] if (grid := over_grid(found)) else []
    lines += [f"beware: {remark}" for remark in remarks(found, flags)]
    return "\n".join([*lines, "", *dict.fromkeys(row.signature for row in rows)])


def over_grid(found: Score) -> str:
    """Returns one line about how LC depends on its regularisation constant C; empty without LC.

    The folds that choose C depend on the machine, so a published number may have another C.
    """
    if found.lc is None or found.lc_range is None:
        return ""
    low, high = found.lc_range
    ends = min(fit.value for fit in found.grid), max(fit.value for fit in found.grid)
    return (
        f"LC at C = {found.lc.c:.6g}; at the constants behind published numbers ({SMALLEST_PUBLISHED_C:.3g} to "
        f"{found.grid[-1].c:.0f}) it is {low:.3f} to {high:.3f}, over the whole grid {ends[0]:.3f} to {ends[1]:.3f}"
    )


def failures(outcome: JudgingOutcome, quiet: bool) -> list[str]:
    """Returns the causes of failures, the most common first; unless ``quiet``, also all others and missing verdicts."""
    errors, reasons = outcome.score.errors, outcome.judging.reasons
    failed = [reason for reason in reasons if not reason.startswith(NO_VERDICT)]
    lines = [f"{errors} of {len(outcome.judging.judgments)} pairs failed, most often: {failed[0]}"] if errors else []
    more = [*(f"failed: {reason}" for reason in failed[1:]), *(reason for reason in reasons if reason not in failed)]
    return lines if quiet else [*lines, *more]


def remarks(found: Score, flags: Sequence[str]) -> list[str]:
    """Returns the warnings that belong to the numbers, one line each."""
    said = [f"no length-controlled win rate: {found.why_no_lc}"] if found.why_no_lc else []
    if found.partial and found.lc is not None:
        said.append(f"LC uses {found.n} instructions only, so it is not the leaderboard's number")
    if found.warning:
        said.append(found.warning)
    if not found.judge.original:
        said.append(f"judged by {found.judge.name}: not comparable with the leaderboard's numbers, which have another judge")
    baseline = found.terms.baseline
    if baseline is None:
        said.append("the baseline is not recorded")
    elif not found.terms.published_baseline:
        said.append(f"against {baseline.label}: not comparable with the leaderboard's numbers, which have another baseline")
    if found.terms.positional:
        said.append("row numbers chose the difficulties, but not all rows are in the data set's order, so LC is wrong")
    return [*said, *flags]


def as_json(found: Score, rows: Sequence[Result], flags: Sequence[str]) -> dict[str, Any]:
    """Returns the report as plain data."""
    return {
        "counts": dict(found.counts),
        "results": [dataclasses.asdict(row) for row in rows],
        "c": found.lc.c if found.lc else None,
        "lc_range": found.lc_range,
        "lc_over_grid": [{"c": fit.c, "value": fit.value} for fit in found.grid],
        "mean_characters": found.mean_characters,
        "remarks": remarks(found, flags),
    }


def spent(found: Spent) -> str:
    """Returns the cost of judging as one line."""
    money = "" if found.dollars is None else f", ${found.dollars:.4f}"
    perhaps = (
        f"; {found.unconfirmed} of them without a token count, perhaps billed: at most ${found.unconfirmed_dollars:.4f}"
        if found.unconfirmed
        else ""
    )
    tokens = f"{found.prompt_tokens:,} prompt and {found.answer_tokens:,} answer tokens"
    return f"sent {counted(found.requests, 'request')}: {tokens}{money}{perhaps}"


def comparison_as_json(found: OutputComparison) -> dict[str, Any]:
    """Returns a comparison of outputs as plain data."""
    return {**dataclasses.asdict(found), "median_divergence": found.median_divergence}
