"""The page of ``explain``: the way from one number to the other as a waterfall, and the table; one file without scripts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from tulu_eval.escaping import html
from tulu_eval.findings.explain_record import Explanation
from tulu_eval.reports import explain

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

STYLE = """
:root{color-scheme:light dark;--ink:#1b1e23;--soft:#59616b;--line:#d9dde2;--page:#fff;--band:#f3f5f7;--number:#3b62c4;
--up:#2b8a41;--down:#d4502f;--rest:#8a929b}
@media(prefers-color-scheme:dark){:root{--ink:#e7e9ec;--soft:#a2abb5;--line:#3a4048;--page:#15181c;--band:#1e2227;
--number:#7f9ff2;--up:#5cc274;--down:#ff8062;--rest:#8a929b}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);max-width:62rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.3rem;line-height:1.35;margin:0 0 1.5rem}
p{max-width:48rem;color:var(--soft);font-size:.9rem;margin:.6rem 0;overflow-wrap:anywhere}
ol{list-style:none;margin:0 0 1.5rem;padding:0}
li{display:grid;grid-template-columns:18rem 1fr;gap:0 1rem;align-items:center;padding:.3rem 0}
.track{position:relative;height:1.4rem;margin-right:4.5rem}
.bar{position:absolute;top:0;bottom:0;min-width:2px;border-radius:2px}
.label{position:absolute;padding-left:.4rem;white-space:nowrap;font-variant-numeric:tabular-nums}
.number{background:var(--number)}.up{background:var(--up)}.down{background:var(--down)}.rest{background:var(--rest)}
div.table{overflow-x:auto;margin-bottom:1rem}table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{text-align:left;vertical-align:top;padding:.3rem .8rem .3rem 0;border-bottom:1px solid var(--line)}
td.figure,th.figure{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
tr.found td{background:var(--band);font-weight:600}
@media(max-width:40rem){li{grid-template-columns:1fr}}
"""

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
    prose = "".join(f"<p>{html(line)}</p>" for line in lines if line)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><title>explain</title><style>{STYLE}</style></head>'
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
