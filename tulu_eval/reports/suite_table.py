"""The report of a suite: one table of its benchmarks, and what has no number and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from tulu_eval.findings.averages import MeasuredAverage
from tulu_eval.records import Result
from tulu_eval.reports import dry_run
from tulu_eval.reports.layout import duration, grid, wrapped
from tulu_eval.reports.run import failed, interval
from tulu_eval.runs.suite_plan import SuitePlan, Unmeasured


def of_rows(rows: Sequence[Result], unmeasured: Sequence[Unmeasured], averages: Sequence[MeasuredAverage] = ()) -> str:
    """Returns the rows of all benchmarks as one table, and a line per benchmark without a number and per average."""
    head = ("benchmark", "protocol", "scorer", "value", "95 % interval", "n", "of")
    body = [
        (
            row.benchmark,
            row.protocol,
            row.scorer,
            f"{row.value:.1f}{failed(row)}",
            interval(row),
            str(row.n),
            str(row.n_protocol),
        )
        for row in rows
    ]
    table = [grid(head, body, keep=(0, 1, 3, 4))] if body else []
    return "\n".join([*table, *map(_line, unmeasured), *map(_average, averages)])


def _average(one: MeasuredAverage) -> str:
    named = f"the card's average as the {one.rule} (which explains that of {' and '.join(one.explains)}):"
    if one.value is None:
        return wrapped(f"{named} {one.why}")
    spread = f"no interval: {one.why}" if one.low is None or one.high is None else f"[{one.low:.1f}, {one.high:.1f}]"
    return wrapped(f"{named} {one.value:.1f} {spread}")


def plan_as_json(planned: SuitePlan) -> dict[str, Any]:
    """Returns the plan of each benchmark as plain data, with the time and memory of the whole."""
    plans = [dry_run.as_json(plan) for plan in planned.plans]
    local = [one for one in plans if one["memory_bytes"] is not None]
    return {
        "suite": planned.suite,
        "plans": plans,
        "unmeasured": [dataclasses.asdict(one) for one in planned.unmeasured],
        "memory_bytes": max((one["memory_bytes"] for one in local), default=None),
        "seconds_at_least": sum(one["seconds_at_least"] for one in local) if local else None,
        "seconds_at_most": sum(one["seconds_at_most"] for one in local) if local else None,
    }


def plan_as_text(planned: SuitePlan) -> str:
    """Returns a line per benchmark, the time and memory of the whole, and what cannot be measured here."""
    data = plan_as_json(planned)
    head = ("benchmark", "protocol", "samples", "prompt tokens", "time")
    body = [
        (one["benchmark"], one["protocol"], f"{one['items']:,}", f"{one['prompt_tokens']:,}", _time(one))
        for one in data["plans"]
    ]
    lines = [grid(head, body, keep=(0, 1))] if body else []
    if data["memory_bytes"] is not None:
        lines.append(f"the whole: about {data['memory_bytes'] / 1e9:.1f} GB of memory; {_time(data)}, engine start not counted")
    return "\n".join([*lines, *map(_line, planned.unmeasured)])


def _time(data: dict[str, Any]) -> str:
    if data["seconds_at_least"] is None:
        return "served"
    return f"{duration(data['seconds_at_least'])} to {duration(data['seconds_at_most'])}"


def _line(one: Unmeasured) -> str:
    return wrapped(f"not measured: {one.benchmark}{f' {one.protocol}' if one.protocol else ''}: {one.why}")
