"""Writes the card's table, with published and measured numbers side by side, in five formats."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from tulu_eval.errors import counted, printable
from tulu_eval.escaping import csv_cell, markdown, markdown_cell, markdown_code
from tulu_eval.files import json_text
from tulu_eval.findings.table import CollectedTable, Measured, TableCell, TableLine
from tulu_eval.findings.table_columns import Column
from tulu_eval.records import FAILURES, Result
from tulu_eval.registry import Suite
from tulu_eval.reports.layout import data, grid, wrapped
from tulu_eval.reports.run import failed, interval

if TYPE_CHECKING:
    import pandas as pd

FORMATS = ("plain", "markdown", "latex", "csv", "json")
SUFFIXES = {".txt": "plain", ".md": "markdown", ".tex": "latex", ".csv": "csv", ".json": "json"}
"""Formats by file name suffix."""

NOT_MEASURED = "not measured"
LEFT = 3
"""Number of columns that name a row: model, size, alignment."""


class RenderedTable(NamedTuple):
    """A table for people.

    Attributes:
        blocks: Range of the columns of each pair of published and measured numbers.
        signatures: Pairs of a row's label and a signature.
    """

    header: list[str]
    rows: list[list[str]]
    blocks: list[range]
    notes: list[str]
    signatures: list[tuple[str, str]]


def write(table: CollectedTable, suite: Suite, form: str) -> str:
    """Returns the table in one of :data:`FORMATS`, ending in a newline."""
    if form == "json":
        return json_text(_records(table))
    if form == "csv":
        return _flat_frame(table).to_csv(index=False)
    shown = _render(table, suite)
    return {"plain": _plain, "markdown": _markdown, "latex": _latex}[form](shown) + "\n"


def _plain(shown: RenderedTable) -> str:
    """Returns one table per benchmark, one below the other, because all columns together are wider than a terminal."""
    bodies = []
    for block in shown.blocks:
        header, *rows = ([*row[:LEFT], *row[block.start : block.stop]] for row in (shown.header, *shown.rows))
        bodies.append(grid(header, rows, keep=()))
    notes = "\n".join(wrapped(note, "  ") for note in shown.notes)
    signatures = "\n".join(f"{whose}: {signature}" for whose, signature in shown.signatures)
    return "\n\n".join(text for text in (*bodies, notes, signatures) if text)


def _markdown(shown: RenderedTable) -> str:
    body = tabulated(shown.header, shown.rows, markdown_cell, "github")
    lines = [f"- {markdown(note)}" for note in shown.notes]
    signatures = [f"- {markdown(whose)}: `{markdown_code(signature)}`" for whose, signature in shown.signatures]
    return "\n".join([body, "", *lines, *(["", "Signatures:", ""] if signatures else []), *signatures])


def _latex(shown: RenderedTable) -> str:
    body = tabulated(shown.header, shown.rows, printable, "latex_booktabs")
    lines = [*shown.notes, *(f"{whose}: {signature}" for whose, signature in shown.signatures)]
    items = "\n".join(rf"\item {{}}{latex_escaped(line)}" for line in lines)
    return f"{body}\n\\begin{{itemize}}\n{items}\n\\end{{itemize}}"


def latex_escaped(text: str) -> str:
    """Returns a text with the letters escaped that LaTeX reads as commands, and without those that steer a terminal."""
    from tabulate import LATEX_ESCAPE_RULES

    return "".join(LATEX_ESCAPE_RULES.get(letter, letter) for letter in printable(text))


def tabulated(header: Sequence[str], rows: Sequence[Sequence[str]], escape: Callable[[str], str], form: str) -> str:
    """Returns rows in one of tabulate's formats; ``escape`` is applied to each cell."""
    from tabulate import tabulate

    return tabulate([list(map(escape, row)) for row in rows], header, tablefmt=form, disable_numparse=True)


def _render(table: CollectedTable, suite: Suite) -> RenderedTable:
    marks = _marks(table)
    parts = [_Part(table, place) for place in range(len(table.columns))]
    header, blocks = ["Model", "Size", "Alignment"], []
    for part in parts:
        blocks.append(range(len(header), len(header) + len(part.titles)))
        header += part.titles
    rows = [
        [line.label, line.size, line.alignment, *(cell for part in parts for cell in part.cells(line, marks))]
        for line in table.lines
    ]
    return RenderedTable(header, rows, blocks, _notes(table, suite, marks), _signatures(table))


class _Part:
    """The columns of one pair of published and measured numbers, without empty ones."""

    def __init__(self, table: CollectedTable, place: int) -> None:
        self.place = place
        self.column = table.columns[place]
        entries = [line.entries[place] for line in table.lines]
        title = self.column.title
        sizes = {entry.cell.n for entry in entries if entry.cell is not None}
        n = f" (n = {sizes.pop()})" if len(sizes) == 1 else ""
        self.shows = {
            f"{title} published{n}": not self.column.judge,
            "group": any(entry.group for entry in entries),
            f"{title} {'estimated' if self.column.calibrated else 'measured'}": True,
            f"{title} on all items": any(entry.measured and entry.measured.full for entry in entries),
            "group of measured": any(entry.measured_group for entry in entries),
            f"{title} verdict": not self.column.judge,
        }
        self.titles = [name for name, shown in self.shows.items() if shown]

    def cells(self, line: TableLine, marks: dict[str, int]) -> list[str]:
        """Returns a line's cells, one per title."""
        entry = line.entries[self.place]
        full = entry.measured.full if entry.measured else None
        texts = (
            published(entry, marks),
            entry.group,
            _measured(entry.measured),
            _value(full) if full else "",
            entry.measured_group,
            verdict(entry),
        )
        return [text for text, shown in zip(texts, self.shows.values(), strict=True) if shown]


def published(entry: TableCell, marks: Mapping[str, int]) -> str:
    """Returns a published number with its interval, and the numbers of its contradictions in ``marks``."""
    if entry.cell is None:
        return "-"
    interval = f" [{entry.interval[0]:.1f}, {entry.interval[1]:.1f}]" if entry.interval else ""
    notes = "".join(f" ({marks[name]})" for name in entry.cell.contradictions if name in marks)
    return f"{entry.cell.value:.1f}{interval}{notes}"


def _measured(measured: Measured | None) -> str:
    if measured is None:
        return NOT_MEASURED
    return _value(measured.row) + (f" ({measured.source})" if measured.source else "")


def _value(row: Result) -> str:
    of = f" of {row.n_protocol}" if row.partial else ""
    return f"{row.value:.1f}{failed(row)} {interval(row)}, n = {row.n}{of}"


def verdict(entry: TableCell) -> str:
    """Returns the verdict with its p-value and power, or why there is none."""
    if entry.comparison is None:
        return entry.reason or "-"
    found = entry.comparison.agreement
    detects = "nothing" if found.detectable is None else f"{found.detectable:.1f}"
    return f"{found.verdict}, p = {found.p_value:.2g}, detects {detects}"


DETECTS = "; 'detects' is the smallest gap in points that the test finds with 80 % power"
"""The word of :func:`verdict`, explained where a row has it."""


def _marks(table: CollectedTable) -> dict[str, int]:
    """Returns the number of each contradiction of a published cell in the table, in reading order from 1."""
    ids = [name for line in table.lines for entry in line.entries if entry.cell for name in entry.cell.contradictions]
    return {name: place for place, name in enumerate(dict.fromkeys(ids), start=1)}


def _notes(table: CollectedTable, suite: Suite, marks: dict[str, int]) -> list[str]:
    entries = {entry.id: entry for entry in suite.contradictions()}
    lines = [f"({mark}) contradicted: {entries[name].first} {entries[name].second}" for name, mark in marks.items()]
    tested = any(entry.comparison for line in table.lines for entry in line.entries)
    lines.append(f"[low, high] is a 95 % interval{DETECTS if tested else ''}.")
    lines.append(
        "Groups: rows that share a letter are not separated by the data (Fisher's exact test of every pair, Holm's correction, "
        "5 %); there are no ranks."
    )
    judges = {column.judge for column in table.columns if column.judge}
    lines += [f"Judged by {judge}: another scale than the published numbers'." for judge in sorted(judges)]
    if any(column.calibrated for column in table.columns):
        lines.append("Calibrated: a raw win rate mapped to the published judge's scale by pairs that both judged; an estimate.")
    for line in table.lines:
        for column, entry in zip(table.columns, line.entries, strict=True):
            flags = entry.measured.flags if entry.measured else ()
            lines += [f"{line.label}, {column.title}: beware, {flag}." for flag in flags]
            if entry.measured and entry.measured.lc_range:
                low, high = entry.measured.lc_range
                over = "over the constants C behind published numbers, which the folds chose"
                lines.append(f"{line.label}, {column.title}: {low:.3f} to {high:.3f} {over}.")
            if entry.measured and entry.measured.runs > 1:
                runs = entry.measured.runs
                lines.append(f"{line.label}, {column.title}: one of {runs} runs, the one with most items, then the newest.")
    lines += [f"{line}." for line in table.apart]
    lines += [
        f"{counted(count, 'run')} of {name} {'has' if count == 1 else 'have'} no column here."
        for name, count in sorted(table.elsewhere.items())
    ]
    return lines


def _signatures(table: CollectedTable) -> list[tuple[str, str]]:
    found = []
    for line in table.lines:
        for entry in line.entries:
            rows = (entry.measured.row, entry.measured.full) if entry.measured else ()
            found += [(line.label, row.signature) for row in rows if row is not None]
    return found


def _records(table: CollectedTable) -> dict[str, Any]:
    """Returns the table as plain data."""
    return {
        "lines": [
            {
                "label": line.label,
                "size": line.size,
                "alignment": line.alignment,
                "model": line.model,
                "on_card": line.on_card,
                "columns": [_record(column, entry) for column, entry in zip(table.columns, line.entries, strict=True)],
            }
            for line in table.lines
        ],
        "problems": list(table.problems),
        "runs_elsewhere": table.elsewhere,
        "apart": list(table.apart),
    }


def _record(column: Column, entry: TableCell) -> dict[str, Any]:
    measured = entry.measured
    return {
        "metric": column.metric_key,
        "judge": column.judge,
        "published": data(entry.cell) if entry.cell else None,
        "published_interval": entry.interval,
        "group": entry.group,
        "measured": data(measured.row) if measured else None,
        "measured_full": data(measured.full) if measured and measured.full else None,
        "measured_group": entry.measured_group,
        "run": str(measured.run.folder) if measured else None,
        "runs": measured.runs if measured else 0,
        "source": measured.source if measured else "",
        "flags": list(measured.flags) if measured else [],
        "lc_range": measured.lc_range if measured else None,
        "agreement": data(entry.comparison.agreement) if entry.comparison else None,
        "no_verdict_because": entry.reason,
    }


def _flat_frame(table: CollectedTable) -> pd.DataFrame:
    """Returns one row per line and column of the table, with every figure in its own column."""
    import pandas as pd

    keys = ("label", "size", "alignment", "model", "on_card")
    rows = [{**{key: line[key] for key in keys}, **cell} for line in _records(table)["lines"] for cell in line["columns"]]
    cells = [{name: csv_cell(value) for name, value in _picked(row, keys).items()} for row in rows]
    return pd.DataFrame(cells).convert_dtypes()


def _picked(row: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    cell, measured, agreement = (row[name] or {} for name in ("published", "measured", "agreement"))
    low, high = row["published_interval"] or (None, None)
    return {
        **{key: row[key] for key in (*keys, "metric", "judge")},
        "published": cell.get("printed"),
        "published_n": cell.get("n"),
        "published_low": low,
        "published_high": high,
        "standing": cell.get("standing"),
        "contradictions": " ".join(cell.get("contradictions", ())),
        "group": row["group"],
        **{name: measured.get(name) for name in ("value", "low", "high", "n", "n_protocol", "protocol", "scorer")},
        "failed": sum((measured.get("counts") or {}).get(status, 0) for status in FAILURES) if measured else None,
        "measured_metric": measured.get("metric"),
        "lc_low": (row["lc_range"] or (None, None))[0],
        "lc_high": (row["lc_range"] or (None, None))[1],
        "measured_group": row["measured_group"],
        "verdict": agreement.get("verdict") or row["no_verdict_because"] or ("" if measured else NOT_MEASURED),
        **{name: agreement.get(name) for name in ("p_value", "difference", "detectable")},
        "runs": row["runs"],
        "signature": measured.get("signature"),
    }
