"""What a judge's verdicts come to, for people and as plain data."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from tulu_eval.judging.budget import Spent
from tulu_eval.judging.compare import Comparison
from tulu_eval.judging.score import Score
from tulu_eval.records import Result

_WORDS = {
    "lc_win_rate": "length-controlled win rate",
    "win_rate": "raw win rate",
    "win_rate_calibrated": "raw win rate on the original judge's scale, an estimate",
}


def as_text(found: Score, rows: Sequence[Result], flags: Sequence[str]) -> str:
    """Returns the account of all instructions, the numbers, what to beware of, and the signatures."""
    from tabulate import tabulate

    body = [
        (_WORDS[row.metric], row.scorer, f"{row.value:.2f}", f"[{row.low:.1f}, {row.high:.1f}]", row.n, row.n_protocol)
        for row in rows
    ]
    header = ("number", "judge", "value", "95 % interval", "n", "of")
    aligned = ("left", "left", "right", "left", "right", "right")
    length = f"mean length of outputs {int(found.mean_characters):,} characters"  # cut off, as on the leaderboard
    lines = [f"{found.account()}; {length}", "", tabulate(body, headers=header, disable_numparse=True, colalign=aligned)]
    lines += [f"beware: {remark}" for remark in remarks(found, flags)]
    return "\n".join([*lines, "", *dict.fromkeys(row.signature for row in rows)])


def remarks(found: Score, flags: Sequence[str]) -> list[str]:
    """Returns what must be said with the numbers, one line each."""
    said = [f"no length-controlled win rate: {found.why_no_lc}"] if found.why_no_lc else []
    if found.partial and found.lc is not None:
        said.append(f"LC stands on {found.n} instructions only; it is not the number of the leaderboard")
    if found.warning:
        said.append(found.warning)
    if not found.judge.original:
        said.append(f"judged by {found.judge.name}: not comparable with the leaderboard's numbers, whose judge was another")
    return [*said, *flags]


def as_json(found: Score, rows: Sequence[Result], flags: Sequence[str]) -> dict[str, Any]:
    """Returns everything as plain data."""
    return {
        "counts": dict(found.counts),
        "results": [dataclasses.asdict(row) for row in rows],
        "c": found.lc.c if found.lc else None,
        "mean_characters": found.mean_characters,
        "remarks": remarks(found, flags),
    }


def spent(found: Spent) -> str:
    """Returns what judging has cost, one line."""
    money = "" if found.dollars is None else f", ${found.dollars:.4f}"
    perhaps = (
        f"; {found.unconfirmed} of them without a report of tokens, perhaps billed: at most ${found.unconfirmed_dollars:.4f}"
        if found.unconfirmed
        else ""
    )
    tokens = f"{found.prompt_tokens:,} prompt and {found.answer_tokens:,} answer tokens"
    return f"sent {found.requests} requests: {tokens}{money}{perhaps}"


def comparison_as_json(found: Comparison) -> dict[str, Any]:
    """Returns a comparison of outputs as plain data."""
    return {**dataclasses.asdict(found), "median_divergence": found.median_divergence}
