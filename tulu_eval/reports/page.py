"""Renders one HTML file with its styles, scripts and data inside; the file requests nothing and forbids any request.

The data is JSON, which the page's own script reads and shows as text. The content security policy only allows the page's own
scripts, by their hashes, and forbids every request, so even an error in a script cannot turn a model's output into code or into
a request.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping
from importlib import resources
from string import Template
from typing import Any

from tulu_eval.escaping import html

SCRIPTS = (
    "vendor/d3.min.js",
    "vendor/plot.umd.min.js",
    "base.js",
    "downloads.js",
    "verdicts.js",
    "board.js",
    "dots.js",
    "samples.js",
    "sample.js",
    "suite.js",
    "training.js",
    "start.js",
)
"""The page's scripts in order of execution. ``vendor`` has Observable Plot and D3, which Plot needs; see its README.md."""

_WEB = resources.files("tulu_eval.reports") / "web"


def render(title: str, data: Mapping[str, Any], blobs: Mapping[str, str]) -> str:
    """Returns the page. The page shows ``data`` at once, and opens ``blobs`` on demand, by name; see :func:`squeeze`."""
    scripts = [_read(name) for name in SCRIPTS]
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in scripts)
    return Template(_read("page.html")).substitute(
        policy=f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'",
        title=html(title),
        style=_read("page.css"),
        data=f'<script type="application/json" id="data">{_json(data)}</script>',
        blobs="\n".join(f'<script type="text/plain" id="{html(name)}">{text}</script>' for name, text in blobs.items()),
        scripts="\n".join(f"<script>{text}</script>" for text in scripts),
    )


def squeeze(data: Any) -> str:
    """Returns data for a part that the page opens on demand: base64 of deflated JSON."""
    raw = json.dumps(data, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()
    return base64.b64encode(zlib.compress(raw, 9)).decode()


def _json(data: Mapping[str, Any]) -> str:
    """Returns JSON for a script element: without ``<``, nothing in it can end the element or open a comment."""
    return json.dumps(data, separators=(",", ":"), ensure_ascii=True, allow_nan=False).replace("<", "\\u003c")


def _read(name: str) -> str:
    return (_WEB / name).read_text(encoding="utf-8")
