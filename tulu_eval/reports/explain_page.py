"""The page of ``explain``: the way from one number to the other as a waterfall, and the table; one file without scripts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from importlib import resources

from tulu_eval.escaping import html
from tulu_eval.findings.explaining.explanation import Explanation
from tulu_eval.reports import explain

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

_STYLE = resources.files("tulu_eval.reports") / "web" / "explain.css"

ARROW = "\u2192"

FIGURES = ("effect", "items", "left")
"""Columns of numbers."""


def as_html(found: Explanation) -> str:
    """Returns the page; every text on it is escaped, and it asks for nothing."""
    next_step = f"Next: {found.next_step}." if found.next_step else ""
    lines = [
        explain.gap_line(found),
        *explain.beside(found),
        explain.METHOD,
        *explain.untried(found),
        explain.spent(found),
        next_step,
    ]
    style = _STYLE.read_text(encoding="utf-8")
    prose = "".join(f"<p>{html(line)}</p>" for line in lines if line)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><title>explain</title>'
        f"<style>{style}</style></head>"
        f"<body><h1>{html(found.sentence)}</h1>{_waterfall(found)}{_table(found)}{prose}</body></html>\n"
    )


def _waterfall(found: Explanation) -> str:
    """Returns the drawing; empty without a gap."""
    if found.gap is None:
        return ""
    before, after = 100 * found.gap.base, 100 * found.gap.goal
    levels = itertools.accumulate((points for _, points in found.steps), initial=before)
    most = min(10 * math.ceil(max(*levels, 1.0) / 10), 100)
    rows = [_bar(f"from: {found.base}", 0.0, before, most, "number", f"{before:.1f} %")]
    level = before
    for place, (name, points) in enumerate(found.steps, start=1):
        kind = "rest" if place == len(found.steps) else "up" if points > 0 else "down"
        rows.append(_bar(name, level, level + points, most, kind, f"{points:+.1f}"))
        level += points
    rows.append(_bar(f"to: {found.goal}", 0.0, after, most, "number", f"{after:.1f} %"))
    return f"<ol>{''.join(rows)}</ol>"


def _bar(name: str, start: float, end: float, most: float, kind: str, label: str) -> str:
    """Returns a row: its name, a bar between two numbers in percent, and a label behind it; ``most`` is the scale's end."""
    low, high = (100 * min(max(one, 0.0), most) / most for one in sorted((start, end)))
    return (
        f'<li><span>{html(name)}</span><span class="track"><span class="bar {kind}" style="left:{low:.2f}%;'
        f'width:{high - low:.2f}%"></span><span class="label" style="left:{high:.2f}%">{html(label)}</span></span></li>'
    )


def _table(found: Explanation) -> str:
    header, rows = explain.table(found)
    if not rows:
        return ""
    marks = [' class="found"' if row.names in (found.named, *found.rivals) else "" for row in found.tried]
    body = "".join(f"<tr{mark}>{_cells('td', header, row)}</tr>" for mark, row in zip(marks, rows, strict=True))
    head = f"<thead><tr>{_cells('th', header, header)}</tr></thead>"
    return f'<div class="table"><table>{head}<tbody>{body}</tbody></table></div>'


def _cells(tag: str, header: Sequence[str], row: Sequence[str]) -> str:
    """Returns the cells of a row; figures stand at the right."""
    marks = (' class="figure"' if name in FIGURES else "" for name in header)
    return "".join(f"<{tag}{mark}>{html(text.replace('->', ARROW))}</{tag}>" for mark, text in zip(marks, row, strict=True))
