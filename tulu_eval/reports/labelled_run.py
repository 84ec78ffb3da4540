"""The report of a run's labels, for people and as plain data."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

from tulu_eval.runs.labelling import LabelledRun
from tulu_eval.runs.stored_labels import OTHER


def as_text(found: LabelledRun) -> str:
    """Returns the account of all answers, the numbers, the first failure of each kind, and the signatures."""
    from tabulate import tabulate

    body = [
        (row.metric, f"{row.value:.2f}", f"[{row.low:.1f}, {row.high:.1f}]", row.n, row.n_protocol) for row in found.results
    ]
    aligned = ("left", "right", "left", "right", "right")
    table = tabulate(body, ("number", "value", "95 % interval", "n", "of"), disable_numparse=True, colalign=aligned)
    lines = [f"judged by {found.results[0].scorer}: {_account(found)}", "", table]
    lines += [f"beware: {remark}" for remark in remarks(found)]
    return "\n".join([*lines, "", *(row.signature for row in found.results)])


def _account(found: LabelledRun) -> str:
    counts = Counter(label.kind for label in found.labels)
    return f"{len(found.labels)} answers = " + " + ".join(f"{n} {kind}" for kind, n in counts.most_common())


def remarks(found: LabelledRun) -> list[str]:
    """Returns the warnings that belong to the numbers, one line each."""
    said = []
    if found.results[0].metric.endswith(OTHER):
        said.append("not the published judge: these numbers have names of their own, and no cell is compared with them")
    first = {label.kind: label for label in reversed(found.labels) if label.kind != "judged"}
    said += [f"{kind}, the first at {label.id}{': ' if label.detail else ''}{label.detail}" for kind, label in first.items()]
    return said


def as_json(found: LabelledRun) -> dict[str, Any]:
    """Returns the report as plain data."""
    return {
        "counts": dict(Counter(label.kind for label in found.labels)),
        "results": [dataclasses.asdict(row) for row in found.results],
        "remarks": remarks(found),
    }
