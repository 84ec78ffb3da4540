"""Runs on a cluster and on this machine, and what they have in common."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from tulu_eval.backends.base import Backend
from tulu_eval.registry import load_suite
from tulu_eval.runs.order import Order
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.run_plan import Plan, make_plan
from tulu_eval.store import manifest as files

QUIET = Progress(quiet=True)


def pens(path: Path, count: int) -> Path:
    """A file of so many rows."""
    lines = [{"question": f"Ann has {n} pens. How many has she?", "answer": f"{n}\n#### {n}"} for n in range(count)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def plan_of(order: Order, cluster: str | None = None, backend: type[Backend] | None = None, **changes: Any) -> Plan:
    """The plan, on a cluster or on this machine, with few new tokens and another engine if one is given."""
    settings = dataclasses.replace(order.settings, cluster=cluster, data_parallel=0 if cluster else 1)
    order = dataclasses.replace(order, settings=settings, output=order.output / ("cluster" if cluster else "here"), **changes)
    plan = make_plan(order, load_suite())
    plan = dataclasses.replace(plan, decoding=dataclasses.replace(plan.decoding, max_new_tokens=24))
    return plan if backend is None else dataclasses.replace(plan, backend=backend)


def samples(folder: Path) -> dict[str, dict[str, Any]]:
    """The lines of a ledger by item, without their seconds; fails if an item has two."""
    found: dict[str, dict[str, Any]] = {}
    for text in (folder / files.LEDGER).read_text().splitlines():
        line = json.loads(text)
        assert line["item"] not in found, "a sample is there twice"
        for name in ("seconds", "crc"):
            line.pop(name)
        found[line["item"]] = line
    return found


def same_run(one: Path, other: Path) -> None:
    """Two folders have the same samples, and the same results but for times."""
    assert samples(one) == samples(other)
    results = [json.loads((folder / files.RESULT).read_text()) for folder in (one, other)]
    for result in results:
        for name in ("answers_sha256", "manifest_sha256", "sha256"):  # of files with seconds in them
            assert len(result.pop(name)) == 64
    assert results[0] == results[1]
    assert files.read_manifest(one).settings_sha256 == files.read_manifest(other).settings_sha256
