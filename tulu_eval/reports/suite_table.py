"""The reports of a suite: one table of its benchmarks with what has no number and why, and all numbers of measured models."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence
from typing import Any

from tulu_eval.errors import printable
from tulu_eval.escaping import csv_cell, markdown, markdown_cell, markdown_code
from tulu_eval.files import json_text
from tulu_eval.findings.averages import MeasuredAverage
from tulu_eval.findings.measured_models import MeasuredModel, SuiteLine, SuiteTable
from tulu_eval.records import Result
from tulu_eval.reports import dry_run
from tulu_eval.reports.layout import duration, grid, wrapped
from tulu_eval.reports.run import failed, interval
from tulu_eval.reports.table import NOT_MEASURED, latex_escaped, published, tabulated, verdict
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
    return wrapped(_said(one))


def _said(one: MeasuredAverage) -> str:
    named = f"the card's average as the {one.rule} (which explains that of {' and '.join(one.explains)}):"
    if one.value is None:
        return f"{named} {one.why}"
    spread = f"no interval: {one.why}" if one.low is None or one.high is None else f"[{one.low:.1f}, {one.high:.1f}]"
    return f"{named} {one.value:.1f} {spread}"


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


HEADER = ("number", "published", "measured", "n", "verdict")
KEYS = ("label", "size", "stage", "title", "benchmark", "protocol", "metric", "scorer", "published", "published_n", "value",
        "low", "high", "n", "n_protocol", "interval", "verdict", "p_value", "detectable", "signature")  # fmt: skip


def write(table: SuiteTable, form: str) -> str:
    """Returns all numbers of measured models in one of the formats of :mod:`tulu_eval.reports.table`, ending in a newline."""
    if form == "json":
        models = [
            {
                "label": one.label,
                "elsewhere": one.elsewhere,
                "averages": [dataclasses.asdict(each) for each in one.averages],
                "lines": _records(one),
            }
            for one in table.models
        ]
        return json_text({"models": models, "problems": list(table.problems)})
    if form == "csv":
        text = io.StringIO()
        rows = csv.DictWriter(text, KEYS, lineterminator="\n")
        rows.writeheader()
        rows.writerows({key: csv_cell(value) for key, value in row.items()} for one in table.models for row in _records(one))
        return text.getvalue()
    return "\n".join(_written(one, form) for one in table.models) or "nothing was measured\n"


def _written(model: MeasuredModel, form: str) -> str:
    """Returns a model's table for people: its name, its numbers, their signatures."""
    rows = [_cells(line) for line in model.lines]
    said = [f"Published, and not measured by a protocol here: {model.elsewhere}."] if model.elsewhere else []
    said += [f"{_said(one)}." for one in model.averages if one.value is not None]
    signatures = [line.cell.measured.row.signature for line in model.lines if line.cell.measured]
    title = ", ".join([model.label, *(part for part in (model.size, model.stage) if part != "-")])
    if form == "plain":
        body = grid(HEADER, rows, right=(3,), keep=(1, 3))
        return "\n".join([printable(title), "", body, "", *map(wrapped, said), *map(printable, signatures), ""])
    escape = markdown_cell if form == "markdown" else latex_escaped
    style = "github" if form == "markdown" else "latex_booktabs"
    body = tabulated(HEADER, rows, escape, style)
    if form == "markdown":
        listed = [f"- `{markdown_code(signature)}`" for signature in signatures]
        return "\n".join([f"## {markdown(title)}", "", body, "", *map(markdown, said), *listed, ""])
    return "\n".join([rf"\paragraph{{{escape(title)}}}", body, *map(escape, said), *map(escape, signatures), ""])


def _cells(line: SuiteLine) -> tuple[str, ...]:
    cell, row = line.cell.cell, line.cell.measured.row if line.cell.measured else None
    title = line.title if line.cell.cell or row is None else f"{line.title}, {row.metric}"
    of = f" of {row.n_protocol}" if row is not None and row.partial else ""
    return (
        title,
        published(line.cell, {}) + (f", n = {cell.n}" if cell is not None and cell.n else ""),
        f"{row.value:.1f}{failed(row)} {interval(row)}" if row is not None else NOT_MEASURED,
        f"{row.n}{of}" if row is not None else "",
        verdict(line.cell),
    )


def _records(model: MeasuredModel) -> list[dict[str, Any]]:
    """Returns one plain row per number of a model."""
    found = []
    for line in model.lines:
        row = line.cell.measured.row if line.cell.measured else None
        cell, test = line.cell.cell, line.cell.comparison.agreement if line.cell.comparison else None
        measured = {name: getattr(row, name, None) for name in KEYS[10:16]}
        found.append(
            {
                "label": model.label,
                "size": model.size,
                "stage": model.stage,
                "title": line.title,
                "benchmark": line.benchmark,
                "protocol": row.protocol if row else None,
                "metric": line.metric,
                "scorer": row.scorer if row else None,
                "published": cell.printed if cell else None,
                "published_n": cell.n if cell else None,
                **measured,
                "verdict": test.verdict if test else line.cell.reason or ("" if row else NOT_MEASURED),
                "p_value": test.p_value if test else None,
                "detectable": test.detectable if test else None,
                "signature": row.signature if row else None,
            }
        )
    return found
