"""The leaderboard's rows as plain data: one per model and published number, with the measured number beside it.

The card's rows come first, then other measured models, then all other published numbers of the suite.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tulu_eval.findings.table import CollectedTable, Measured, TableCell, TableLine, entry
from tulu_eval.findings.table_columns import Column
from tulu_eval.judging.judge_recipe import ORIGINAL_JUDGE
from tulu_eval.judging.numbers import edition_of_metric, is_win_rate
from tulu_eval.records import Result
from tulu_eval.registry import Lineage, PublishedCell, Suite
from tulu_eval.reports.layout import data
from tulu_eval.reports.models import step
from tulu_eval.runs.reading import StoredRun
from tulu_eval.store.manifest_schema import Manifest


def charts(table: CollectedTable, suite: Suite) -> list[dict[str, str]]:
    """Returns the charts of the rows, one per metric and judge: its name, the label of its axis, and the axis' unit."""
    return [{"name": _chart(column), "axis": _axis(suite, column), "unit": _unit(suite, column)} for column in table.columns]


def _chart(column: Column) -> str:
    return column.title.rstrip(",")


def _unit(suite: Suite, column: Column) -> str:
    return suite.metrics[column.metric_key].unit if column.metric_key else "percent"


def _axis(suite: Suite, column: Column) -> str:
    asked = "" if column.judge else " as published"
    judge = f", judged by {_judge(column)}{asked}" if is_win_rate(column.metric) else ""
    calibrated = f", mapped to the scale of {ORIGINAL_JUDGE}" if column.calibrated else ""
    return f"{column.name}, {_unit(suite, column)}{judge}{calibrated}"


def _judge(column: Column) -> str:
    edition = edition_of_metric(column.metric)
    return column.judge or (edition.judge if edition else "")


def rows(table: CollectedTable, suite: Suite, runs: Mapping[Path, int]) -> list[dict[str, Any]]:
    """Returns the rows; ``runs`` has the position of each run by its folder."""
    found: list[dict[str, Any]] = []
    shown: set[tuple[str, str, str]] = set()
    for line in table.lines:
        for column, one in zip(table.columns, line.entries, strict=True):
            for beside in _beside(suite, column, line, one):
                if beside.cell is not None:
                    shown.add(_number(beside.cell))
                if beside.cell is not None or beside.measured is not None:
                    found.append(_row(suite, column, line, beside, runs))
    return found + list(_rest(suite, table.columns, shown))


def _beside(suite: Suite, column: Column, line: TableLine, one: TableCell) -> list[TableCell]:
    """Returns a line's entry; if the card has no number of a measured model, one entry per number published elsewhere."""
    known = any(model.hub_id == line.model for model in suite.models)
    if one.cell is not None or one.measured is None or column.judge or not known:
        return [one]
    cells = {_number(cell): cell for cell in reversed(_cells(suite, column)) if cell.model == line.model}
    return [entry(suite, column, [one.measured.run], cell) for cell in cells.values()] or [one]


def _rest(suite: Suite, columns: Sequence[Column], shown: set[tuple[str, str, str]]) -> Iterator[dict[str, Any]]:
    for column in columns:
        for cell in _cells(suite, column) if not column.judge else ():
            if _number(cell) not in shown:
                shown.add(_number(cell))
                model = suite.find(cell.model)
                line = TableLine(model.name, model.size, model.stage, model.hub_id, False, ())
                yield _row(suite, column, line, entry(suite, column, [], cell), {})


def _cells(suite: Suite, column: Column) -> list[PublishedCell]:
    return [cell for cell in suite.cells(benchmark=column.benchmark) if cell.metric_key == column.metric_key]


def _number(cell: PublishedCell) -> tuple[str, str, str]:
    """Returns the key of a cell's row: cells with the same model, metric and value share a row, whatever their sources."""
    return cell.model, cell.metric_key, f"{cell.value:.1f}"


def _row(suite: Suite, column: Column, line: TableLine, one: TableCell, runs: Mapping[Path, int]) -> dict[str, Any]:
    measured = one.measured
    return {
        "scope": "card" if line.on_card else "measured" if measured else "suite",
        "label": line.label,
        "model": line.model,
        "size": line.size,
        "stage": line.alignment,
        "chart": _chart(column),
        "judge": _judge(column),
        "published": _published(suite, one.cell, one) if one.cell else None,
        "measured": result(measured.row) if measured else None,
        "beware": _beware(measured) if measured else [],
        "full": result(measured.full) if measured and measured.full else None,
        "run": runs.get(measured.run.folder) if measured else None,
        "runs": measured.runs if measured else 0,
        "verdict": _verdict(one),
        "lineage": _lineage(suite.lineage(suite.find(line.model))) if one.cell else None,
    }


def _lineage(lineage: Lineage) -> dict[str, Any]:
    """Returns the path of the weights, and the reward model and the value model beside it."""
    beside = {"reward_model": lineage.reward_model, "value_model": lineage.value_model}
    return {"path": list(map(step, lineage.path)), **{name: model and step(model) for name, model in beside.items()}}


def _beware(measured: Measured) -> list[str]:
    """Returns the warnings for a measured number: failures in it, its source, its flags."""
    row = measured.row
    failed = [f"{row.failed} of {row.n * row.samples} failed"] if row.failed else []
    return [*failed, *filter(None, [measured.source]), *measured.flags]


def _published(suite: Suite, cell: PublishedCell, one: TableCell) -> dict[str, Any]:
    same = [other for other in suite.cells() if other.model == cell.model and _number(other) == _number(cell)]
    low, high = one.interval or (None, None)
    return {
        **{name: getattr(cell, name) for name in ("value", "n", "standing", "label", "identity")},
        "printed": f"{cell.value:.1f}",
        "low": low,
        "high": high,
        "sources": [str(other.source) for other in same],
        "contradictions": list(dict.fromkeys(name for other in same for name in other.contradictions)),
        "group": one.group,
    }


def result(row: Result) -> dict[str, Any]:
    """Returns a measured row as plain data; its bounds are ``None`` if it has no interval."""
    bounds = {"low": None, "high": None} if row.interval == "none" else {}
    return {**data(row), **bounds, "of": row.n_protocol, "failed": row.failed}


def _verdict(one: TableCell) -> dict[str, Any]:
    if one.comparison is None:
        return {"name": "no verdict" if one.measured else "not measured", "why": one.reason}
    found = one.comparison.agreement
    return {
        "name": found.verdict,
        "why": found.explanation,
        "p": found.p_value,
        "difference": found.difference,
        "detectable": found.detectable,
    }


def run(finished: StoredRun, root: Path) -> dict[str, Any]:
    """Returns the page's data about a run."""
    manifest = None if finished.of_files else finished.manifest
    sessions = manifest.sessions if manifest else ()
    return {
        "folder": finished.folder.relative_to(root).as_posix(),
        "model": finished.model,
        "revision": finished.about.model.revision,
        "benchmark": finished.benchmark,
        "protocol": manifest.protocol.name if manifest else finished.results[0].protocol,
        "summary": manifest.protocol.summary if manifest else "",
        "form": manifest.template.form if manifest else "",
        "source": _source(finished),
        "engine": _engine(manifest) if manifest else "",
        "shards": len({session.shard for session in sessions if session.shard}),
        "ended": finished.ended,
        "status": (manifest and manifest.status) or "",
        "command": " ".join((manifest and manifest.command) or ()),
        "commit": manifest.commit if manifest else "",
        "regraded": finished.regraded,
        "unfinished": finished.tally.unfinished,
        "failures": finished.tally.failures,
        "rows": [result(row) for row in finished.results],
    }


def _source(finished: StoredRun) -> str:
    """Returns the source of a run's samples; empty if this program generated them."""
    if finished.of_files or not (imported := finished.manifest.imported):
        return finished.source
    return f"{finished.imported}'s {imported.file}"


def _engine(manifest: Manifest) -> str:
    if manifest.imported:
        return ""
    engine = manifest.engine
    if manifest.settings.served:
        software, prompts = engine.get("software", "unknown software"), engine.get("prompts", "unknown")
        return f"{software} behind a server, prompts sent as {prompts}"
    return f"{manifest.backend}, {manifest.dtype}, {engine.get('device', 'device not recorded')}"
