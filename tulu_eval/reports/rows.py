"""A run's rows as a table for people."""

from __future__ import annotations

from collections.abc import Sequence

from tulu_eval.records import Result
from tulu_eval.runs.scoring import Scored


def of_run(results: Sequence[Result]) -> str:
    """Returns rows as a plain table, failures named under it, and the signature of each number."""
    from tabulate import tabulate

    header = ("protocol", "scorer", "value", "95 % interval", "n", "of")
    body = [
        (row.protocol, row.scorer, f"{row.value:.1f}", f"[{row.low:.1f}, {row.high:.1f}]", row.n, row.n_protocol)
        for row in results
    ]
    lines = [
        tabulate(body, headers=header, disable_numparse=True, colalign=("left", "left", "right", "left", "right", "right"))
    ]
    for protocol in dict.fromkeys(row.protocol for row in results):
        counts = next(row.counts for row in results if row.protocol == protocol)
        shown = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
        lines.append(f"{protocol}: {shown}")
    lines.append("")
    lines.extend(row.signature for row in results)
    return "\n".join(lines)


def of_disagreements(scored: Scored) -> str:
    """Returns the items on which the scorers differ, with what each read; empty for a benchmark with one scorer."""
    from tabulate import tabulate

    if len(scored.scorers) < 2:
        return ""
    names = " and ".join(scored.scorers)
    if not scored.disagreements:
        return f"\n{names} agree on every item"
    body = [(one.item, one.target, *map(_read, one.answers, one.scores)) for one in scored.disagreements]
    table = tabulate(body, headers=("item", "target", *scored.scorers), disable_numparse=True)
    return f"\n{names} disagree on {len(body)} items:\n{table}"


def _read(answer: str, score: float) -> str:
    return f"{answer or '-'} {'right' if score else 'wrong'}"
