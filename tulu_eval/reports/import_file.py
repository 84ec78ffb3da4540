"""The report of ``import``, for people and as plain data."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from tulu_eval.errors import counted, few, printable
from tulu_eval.exchange.foreign_answers import ForeignAnswer
from tulu_eval.exchange.import_file import Imported
from tulu_eval.reports import run

_KINDS = {
    "foreign": "left out (no such item in the benchmark)",
    "changed": "left out (the item has another question, right answer or choices)",
    "repeated": "left out (the item already has an answer)",
    "reworded": "taken by their place (the item's question is worded differently)",
}


def as_json(done: Imported) -> dict[str, Any]:
    """Returns the report as plain data, without the answers' texts."""
    named = {kind: [{"line": one.line, "question": one.question} for one in getattr(done.matched, kind)] for kind in _KINDS}
    return {
        "folder": str(done.folder),
        "protocol": done.protocol,
        "other_prompts": done.other_prompts,
        "harness": done.source.harness,
        "version": done.source.version,
        "task": done.source.task,
        "engine": done.source.engine,
        "decoding": dataclasses.asdict(done.source.decoding),
        "other_decoding": list(done.source.other_decoding),
        "quantization": done.source.quantization,
        "adapter": done.source.adapter,
        "nulls": done.source.nulls,
        "answers": len(done.matched.answers),
        **named,
        "missing": [item.id for item in done.matched.missing],
        "misread": list(done.misread),
        "results": [dataclasses.asdict(row) for row in done.results],
    }


def as_text(done: Imported) -> str:
    """Returns the imported answers, those left out or taken by their place with the reason, and the rows."""
    source, matched = done.source, done.matched
    lines = [
        f"{source.harness} {source.version}, task {source.task}: {counted(len(matched.answers), 'answer')} "
        f"from {counted(source.lines, 'line')}",
        *(f"{len(found)} {what}: {_lines(found)}" for kind, what in _KINDS.items() if (found := getattr(matched, kind))),
    ]
    if matched.missing:
        lines.append(f"{counted(len(matched.missing), 'item')} without an answer: {few([item.id for item in matched.missing])}")
    if source.nulls:
        lines.append(f"{source.nulls} answers are null in the file and count as empty")
    if done.misread:
        lines.append(
            f"{len(done.misread)} answers that {source.harness} read differently than its own rule here: {few(done.misread)}"
        )
    if done.other_prompts:
        lines.append(f"its prompts are another recipe's than {done.protocol}'s, so its numbers are, too")
    lines.append(f"{source.harness} does not record why an answer ended, so none counts as truncated")
    return "\n".join(map(printable, lines)) + f"\n\n{run.of_run(done.results, done.tally)}\n\n{done.folder}"


def _lines(found: Sequence[ForeignAnswer]) -> str:
    return few([f"line {one.line} ({one.question[:40]!r})" for one in found])
