"""Fields of a run that no hash pins, and changes that no reader can detect."""

from __future__ import annotations

FREE = {
    "manifest.json": ("sessions", "status", "tally", "answers_sha256", "command", "commit", "machine", "engine", "shard"),
    "samples.jsonl": ("seconds",),
}
"""By file, the fields that no hash ties down: they change while a run goes on, and no number follows from them.

Whatever stands in them, verbs print the same but for what they show by its name, or refuse it. Everything else of a manifest
is pinned by ``result.json``, and all of ``result.json`` by its own hash. Of a sample ``token_ids``, ``error`` and
``finish_reason`` are pinned by the hash of the answers."""

UNKNOWABLE: dict[str, tuple[str, ...]] = {
    "samples.jsonl, hashes made again": ("text", "token_ids", "finish_reason", "error"),
    "manifest.json, hashes made again": (),
    "manifest.json, hashes made again and no result": (),
    "judging.json": ("generator", "finished", "notes", "screen", "annotations_sha256", "calibration", "baseline"),
}
"""What no reader can know: by file, the fields; of an empty tuple all.

A forgery that makes every hash again cannot be known where the samples do not tell: names of model, engine and settings, and
the text of the samples themselves. It is known where they do: grades, classes, scores, rows, n and right answers.
``judging.json`` has no hash: judge, method and prompt are in the rows' signatures and the counts are counted again, but whose
outputs they were only it says."""


def free(file: str, field: str) -> bool:
    """Returns whether no number follows from a field."""
    return field.partition(".")[0] in FREE.get(file, ())


def unknowable(file: str, field: str) -> bool:
    """Returns whether no reader can detect a change of a field."""
    fields = UNKNOWABLE.get(file.rpartition("/")[2])
    return fields is not None and (not fields or field.split(".")[0] in fields)
