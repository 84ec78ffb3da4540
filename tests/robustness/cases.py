"""All changes to a run folder: every field of its JSON, with hashes as they were and made again, and every file."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

SEED = 20261130
"""Seed of the draw of flipped bits and of the share that ``make test`` runs."""


def _beside(name: str) -> ModuleType:
    return sys.modules[f"robustness_{name}"]


def every(good: Path) -> Iterator[Any]:
    """Yields every case for a good run."""
    harness = _beside("harness")
    yield from _of_json(good, {"manifest.json": harness.forged_manifest, "result.json": harness.forged_result})
    alone = "manifest.json, hashes made again and no result"
    for one in _beside("mutations").mutations(json.loads((good / "manifest.json").read_text())):
        if one.data is not None:
            yield harness.Case(
                alone, one.field, one.kind, lambda folder, one=one: harness.forged_manifest_alone(folder, _copy(one.data))
            )
    yield from _of_samples(good)
    yield from _of_files(good, ("manifest.json", "result.json", "samples.jsonl"))
    yield from _of_files_beside()


def every_judged(good: Path) -> Iterator[Any]:
    """Yields every case for a good folder of a judge."""
    mutations, harness = _beside("mutations"), _beside("harness")
    yield from _of_json(good, {"result.json": harness.forged_result, "judging.json": None})
    lines = (good / "judgments.jsonl").read_text().splitlines(keepends=True)
    for one in mutations.mutations(json.loads(lines[0])):
        changed = [one.text + "\n", *lines[1:]]
        yield harness.Case(
            "judgments.jsonl", one.field, one.kind,
            lambda folder, changed=changed: _put(folder / "judgments.jsonl", "".join(changed)),
        )  # fmt: skip
        yield harness.Case(
            "judgments.jsonl, hashes made again", one.field, one.kind,
            lambda folder, changed=changed: harness.forged_judgments(folder, changed),
        )  # fmt: skip
    yield from _of_files(good, ("result.json", "judging.json", "judgments.jsonl"))


def _of_json(good: Path, names: dict[str, Any]) -> Iterator[Any]:
    """Yields changes to JSON files; ``names`` has what writes each with its hashes made again, None where it has none."""
    mutations, harness = _beside("mutations"), _beside("harness")
    for name, forge in names.items():
        for one in mutations.mutations(json.loads((good / name).read_text())):
            yield harness.Case(name, one.field, one.kind, lambda folder, one=one, name=name: _put(folder / name, one.text))
            if one.data is not None and forge is not None:
                again = f"{name}, hashes made again"
                yield harness.Case(
                    again, one.field, one.kind, lambda folder, one=one, forge=forge: forge(folder, _copy(one.data))
                )


def _of_samples(good: Path) -> Iterator[Any]:
    mutations, harness = _beside("mutations"), _beside("harness")
    lines = (good / "samples.jsonl").read_bytes().splitlines(keepends=True)
    for one in mutations.mutations(json.loads(lines[0])):
        yield harness.Case(
            "samples.jsonl", one.field, one.kind,
            lambda folder, one=one: harness.forged_samples(folder, [one.text.encode() + b"\n", *lines[1:]], hashes=False),
        )  # fmt: skip
        line = harness.sample_line(one.text)
        for hashes, how in ((False, "checksum made again"), (True, "hashes made again")):
            yield harness.Case(
                f"samples.jsonl, {how}", one.field, one.kind,
                lambda folder, line=line, hashes=hashes: harness.forged_samples(folder, [line, *lines[1:]], hashes=hashes),
            )  # fmt: skip
    for kind, changed in (
        ("a line twice", [lines[0], *lines]),
        ("other order", lines[::-1]),
        ("a line less", lines[1:]),
        ("a blank line", [*lines, b"\n"]),
        ("half a line", [*lines, lines[0][:50]]),
    ):
        for hashes in (False, True):
            yield harness.Case(
                f"samples.jsonl, {'hashes made again' if hashes else 'as it is'}", "", kind,
                lambda folder, changed=changed, hashes=hashes: harness.forged_samples(folder, list(changed), hashes=hashes),
            )  # fmt: skip


def _of_files(good: Path, names: tuple[str, ...]) -> Iterator[Any]:
    mutations, harness = _beside("mutations"), _beside("harness")
    for name in names:
        for number, (kind, change) in enumerate(mutations.of_files(random.Random(SEED))):
            yield harness.Case(name, "", f"{kind} #{number}", lambda folder, name=name, change=change: change(folder / name))
        for other in names:
            if other != name:
                swap: Callable[[Path], None] = lambda folder, a=name, b=other: _swap(folder / a, folder / b)  # type: ignore[misc]  # noqa: E731
                yield harness.Case(name, "", f"swapped with {other}", swap)


def _of_files_beside() -> Iterator[Any]:
    harness = _beside("harness")
    for name, texts in {
        "audit.json": ("{}", "[]", "{", '{"flips": 1}', '{"flips": NaN, "trials": 0}', "\ud800"),
        "compared_as.json": ("{}", "[]", '{"format": 1, "model": "tulu-2-13b"}', '{"format": 1, "model": 7}', "\x00"),
        "digests.jsonl": ("{}", "[]", "null\n"),
        "samples.jsonl.gz": ("{}", "\x1f\x8b"),
    }.items():
        for number, text in enumerate(texts):
            data = text.encode("utf-8", "surrogatepass")
            yield harness.Case(name, "", f"beside #{number}", lambda folder, n=name, d=data: (folder / n).write_bytes(d))


def sample(all_: list[Any], verbs: list[str], count: int, seed: int = SEED) -> list[tuple[Any, str]]:
    """Returns as many pairs of a case and a verb, drawn with a fixed seed."""
    rng = random.Random(seed)
    return [(rng.choice(all_), verbs[place % len(verbs)]) for place in range(count)]


def _copy(data: Any) -> Any:
    return json.loads(json.dumps(data))


def _put(path: Path, text: str) -> None:
    path.write_bytes(text.encode("utf-8", "surrogatepass"))


def _swap(one: Path, other: Path) -> None:
    a, b = one.read_bytes(), other.read_bytes()
    one.write_bytes(b)
    other.write_bytes(a)
