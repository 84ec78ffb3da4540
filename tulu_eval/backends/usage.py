"""Tokens and seconds of many engines, each of which counts its own since it was loaded."""

from __future__ import annotations

import dataclasses

from tulu_eval.backends.base import Usage


def spent(before: Usage, after: Usage) -> Usage:
    """Returns what an engine used between two moments."""
    fields = dataclasses.fields(Usage)
    return Usage(**{field.name: getattr(after, field.name) - getattr(before, field.name) for field in fields})


def add(total: Usage, job: Usage, engines: int) -> None:
    """Adds what one of so many engines used; seconds are divided by their number, since they work side by side."""
    for field in dataclasses.fields(Usage):
        part = getattr(job, field.name)
        part = part / engines if field.name.endswith("seconds") else part
        setattr(total, field.name, getattr(total, field.name) + part)
