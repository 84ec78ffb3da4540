"""The page of ``explain``: the way from one number to the other as a waterfall, and the table; one file without scripts."""

from __future__ import annotations

from tulu_eval.escaping import html
from tulu_eval.findings.explain_record import Explanation
from tulu_eval.reports.explain import as_text

WIDTH, LEFT, ROW = 900, 330, 34
"""Sizes in pixels: of the drawing, of its column of names, and of a row."""

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

STYLE = (
    "body{font:15px system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}pre{overflow-x:auto;font-size:13px}"
    "text{font:14px system-ui,sans-serif;fill:currentColor}.number{fill:#4269d0}.up{fill:#3ca951}.down{fill:#ff725c}"
    ".rest{fill:#9c9c9c}line{stroke:#9c9c9c}svg{max-width:100%;height:auto}"
)


def as_html(found: Explanation) -> str:
    """Returns the page; every text on it is escaped, and it asks for nothing."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><title>explain</title><style>{STYLE}</style></head>'
        f"<body><h1>{html(found.sentence)}</h1>{_waterfall(found)}<pre>{html(as_text(found))}</pre></body></html>\n"
    )


def _waterfall(found: Explanation) -> str:
    """Returns the drawing; empty without a gap."""
    if found.gap is None:
        return ""
    before, after = 100 * found.gap.base, 100 * found.gap.goal
    rows = [_bar(0, f"from: {found.base}", 0.0, before, "number", f"{before:.1f} %")]
    level = before
    for place, (name, points) in enumerate(found.steps, start=1):
        kind = "rest" if place == len(found.steps) else "up" if points > 0 else "down"
        rows.append(_bar(place, name, level, level + points, kind, f"{points:+.1f}"))
        level += points
    last = len(found.steps) + 1
    rows.append(_bar(last, f"to: {found.goal}", 0.0, after, "number", f"{after:.1f} %"))
    height = (last + 1) * ROW
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{html(found.sentence)}">{"".join(rows)}</svg>'


def _bar(place: int, name: str, start: float, end: float, kind: str, label: str) -> str:
    """Returns a row: its name, a bar between two numbers in percent, and a label behind it."""
    scale = (WIDTH - LEFT - 70) / 100
    low, high = sorted((min(max(start, 0.0), 100.0), min(max(end, 0.0), 100.0)))
    top = place * ROW
    shown = name if len(name) <= 44 else f"{name[:43]}\u2026"
    x, width = LEFT + scale * low, max(scale * (high - low), 1.0)
    return (
        f'<g><title>{html(name)}</title><text x="0" y="{top + 21}">{html(shown)}</text>'
        f'<rect class="{kind}" x="{x:.1f}" y="{top + 5}" width="{width:.1f}" height="{ROW - 10}"/>'
        f'<text x="{x + width + 6:.1f}" y="{top + 21}">{html(label)}</text></g>'
    )
