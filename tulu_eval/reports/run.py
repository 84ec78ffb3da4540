"""The report of a run's rows, for people and as plain data."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tulu_eval.errors import printable
from tulu_eval.escaping import html
from tulu_eval.records import Result
from tulu_eval.reports.layout import cut, grid, wrapped
from tulu_eval.runs.reading import StoredRun
from tulu_eval.runs.score import Disagreement, Regraded
from tulu_eval.store.tally import Tally


def as_json(folder: Path, results: Sequence[Result], tally: Tally) -> dict[str, Any]:
    """Returns a run's results as plain data."""
    return {
        "folder": str(folder),
        **dataclasses.asdict(tally),
        "finished": tally.finished,
        "results": [{**dataclasses.asdict(row), "failed": row.failed} for row in results],
    }


def of_run(results: Sequence[Result], tally: Tally) -> str:
    """Returns rows as a plain table, followed by missing and failed items and the signature of each number."""
    from tabulate import tabulate

    header = ("protocol", "scorer", "value", "95 % interval", "n", "of")
    body = [
        (row.protocol, row.scorer, f"{row.value:.1f}{failed(row)}", interval(row), row.n, row.n_protocol) for row in results
    ]
    align = ("left", "left", "right", "left", "right", "right")
    lines = [tabulate(body, headers=header, disable_numparse=True, colalign=align)] if body else []
    for protocol in dict.fromkeys(row.protocol for row in results):
        first = next(row for row in results if row.protocol == protocol)
        shown = ", ".join(f"{count} {status}" for status, count in first.counts.items() if count)
        several = f", {first.samples} samples per item" if first.samples > 1 else ""
        lines.append(f"{protocol}{several}: {shown}")
    if tally.unfinished:
        whole = f"; the results cover the first {results[0].n} items of its order" if results else ""
        lines.append(f"{tally.unfinished}{whole}")
    if tally.failures:
        lines.append(f"{tally.failures}; the interval spans all of them wrong and all of them right")
    lines.append("")
    lines.extend(row.signature for row in results)
    return "\n".join(lines)


def interval(row: Result) -> str:
    """Returns a row's 95 % interval as text."""
    return "no interval" if row.interval == "none" else f"[{row.low:.1f}, {row.high:.1f}]"


def failed(row: Result) -> str:
    """Returns the number of failures as text to put after a value; empty if there are none."""
    return f" ({row.failed} failed)" if row.failed else ""


def one_line(run: StoredRun) -> str:
    """Returns a run in one line: no value without n and interval, none of a run that is not as it was made."""
    head = f"{run.model} on {run.benchmark}"
    if run.doubts:
        return printable(f"{head}: not as it was made: {'; '.join(run.doubts)}")
    told = [f"{row.protocol} {row.scorer} {_number(row)}, n = {row.n} of {row.n_protocol}" for row in run.results]
    remarks = filter(None, (run.tally.unfinished, run.tally.failures))
    return printable("; ".join([f"{head}: {', '.join(told) or 'no results'}", *remarks]))


def _number(row: Result) -> str:
    return "no interval" if row.interval == "none" else f"{row.value:.1f}{failed(row)} {interval(row)}"


def as_html(run: StoredRun) -> str:
    """Returns a run's rows as an HTML table, what is missing or doubtful named above it."""
    head = html(f"{run.model} on {run.benchmark}")
    remarks = [*(f"not as it was made: {doubt}" for doubt in run.doubts), run.tally.unfinished, run.tally.failures]
    lines = "".join(f"<p>{html(remark)}</p>" for remark in remarks if remark)
    titles = "".join(f"<th>{title}</th>" for title in ("protocol", "scorer", "value", "95 % interval", "n", "of"))
    body = "".join(
        "<tr>" + "".join(f"<td>{html(str(cell))}</td>" for cell in _cells(row)) + "</tr>"
        for row in (() if run.doubts else run.results)
    )
    return f"<p><b>{head}</b></p>{lines}<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"


def _cells(row: Result) -> tuple[str | int, ...]:
    value = "-" if row.interval == "none" else f"{row.value:.1f}{failed(row)}"
    return row.protocol, row.scorer, value, interval(row), row.n, row.n_protocol


def of_disagreements(scored: Regraded) -> str:
    """Returns the items on which the scorers differ, with what each read; empty for a benchmark with one scorer.

    Scorers that read and grade alike share a row, so that any number of them fits a terminal.
    """
    if len(scored.scorers) < 2:
        return ""
    names = f"{', '.join(scored.scorers[:-1])} and {scored.scorers[-1]}"
    if not scored.disagreements:
        return f"\n{wrapped(f'{names} agree on every item')}"
    rows = [row for one in scored.disagreements for row in _readings(scored.scorers, one)]
    table = grid(("item", "target", "answer", "scorers"), rows)
    return f"\n{wrapped(f'{names} disagree on {len(scored.disagreements)} items:')}\n{table}"


def _readings(scorers: Sequence[str], one: Disagreement) -> list[tuple[str, str, str, str]]:
    """Returns a row per answer and score of an item; item and target stand in the first."""
    by_reading: dict[tuple[str, float], list[str]] = {}
    for scorer, answer, score in zip(scorers, one.answers, one.scores, strict=True):
        by_reading.setdefault((answer, score), []).append(scorer)
    firsts = [(one.item, cut(one.target)), *[("", "")] * (len(by_reading) - 1)]
    return [
        (*first, f"{cut(answer) or 'none'} ({grade(score)})", ", ".join(names))
        for first, ((answer, score), names) in zip(firsts, by_reading.items(), strict=True)
    ]


def grade(score: float) -> str:
    """Returns a score, 0 to 1, as a word, or as a number between."""
    return {0.0: "wrong", 1.0: "right"}.get(score, f"{score:.2g}")
