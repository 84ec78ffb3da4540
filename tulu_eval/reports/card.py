"""The report of ``card --check``, for people and as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tulu_eval.errors import counted
from tulu_eval.model_card.check import Finding
from tulu_eval.registry import Model
from tulu_eval.reports.layout import wrapped

WIDTH = 120


def as_json(path: Path, model: Model | None, findings: Sequence[Finding]) -> dict[str, Any]:
    """Returns the report as plain data."""
    names = ("line", "check", "says", "instead", "source", "advice")
    return {
        "card": str(path),
        "model": model.hub_id if model else None,
        "findings": [{name: getattr(one, name) for name in names} for one in findings],
    }


def as_text(path: Path, model: Model | None, findings: Sequence[Finding]) -> str:
    """Returns one paragraph per finding, which starts like a compiler's message, and a closing line."""
    places: dict[tuple[str, ...], list[int]] = {}
    for one in findings:
        places.setdefault((one.check, one.says, one.instead, one.source, one.advice), []).append(one.line)
    blocks = [_block(path, lines, *parts) for parts, lines in places.items()]
    whose = f"the card of {model.hub_id}" if model else "its metadata names no model of the registry, so less could be checked"
    found = f"{counted(len(places), 'finding')} in {counted(len(findings), 'place')}" if findings else "nothing found"
    return "\n".join([*blocks, f"{path}: {found} ({whose})"])


def _block(path: Path, lines: list[int], check: str, says: str, instead: str, source: str, advice: str) -> str:
    others = f" (also lines {', '.join(map(str, dict.fromkeys(lines[1:])))})" if lines[1:] else ""
    parts = [
        f"{path}:{lines[0]}: {check}: {says}{others}",
        wrapped(f"  but: {instead} [{source}]", "       ", WIDTH),
        *([wrapped(f"  so:  {advice}", "       ", WIDTH)] if advice else []),
    ]
    return "\n".join(parts)
