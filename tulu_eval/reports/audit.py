"""The report of ``audit`` for people."""

from __future__ import annotations

from tulu_eval.findings.audit import Audit
from tulu_eval.reports.layout import grid


def as_text(audit: Audit) -> str:
    """Returns the changes in each repetition, the share of grades that flip, and the interval that includes this noise."""
    header = ("repeated", "items", "tokens changed", "grade flipped", "first difference at token")
    body = [
        (
            one.name,
            str(len(audit.items)),
            str(len(one.changed)),
            str(len(one.flipped)),
            f"{min(one.first.values())} to {max(one.first.values())}" if one.first else "-",
        )
        for one in audit.repetitions
    ]
    row, wide = audit.row, audit.widened
    flipped = sorted({item for one in audit.repetitions for item in one.flipped})
    lines = [
        grid(header, body),
        "",
        f"{audit.flips} of {audit.trials} grades flipped: {100 * audit.flips / audit.trials:.1f} % "
        f"[{100 * audit.rate.low:.1f}, {100 * audit.rate.high:.1f}]{': ' + ', '.join(flipped) if flipped else ''}",
        f"{row.protocol}, {row.scorer}: {row.value:.1f} [{row.low:.1f}, {row.high:.1f}], "
        f"with this noise [{wide.low:.1f}, {wide.high:.1f}], n = {row.n}",
        row.signature,
    ]
    return "\n".join(lines)
