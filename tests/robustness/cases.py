"""All changes to a run folder: every field of its JSON, with hashes as they were and made again, and every file."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from robustness import forging, mutations
from robustness.bench import Case
from robustness.tally import SEED


def every(good: Path, other: Path) -> Iterator[Case]:
    """Yields every case for a good run; ``other`` is another good one."""
    yield from _of_json(good, {"manifest.json": forging.forged_manifest, "result.json": forging.forged_result})
    alone = "manifest.json, hashes made again and no result"
    for one in mutations.mutations(json.loads((good / "manifest.json").read_text())):
        if one.data is not None:
            yield Case(
                alone, one.field, one.kind, lambda folder, one=one: forging.forged_manifest_alone(folder, _copy(one.data))
            )
    yield from _of_samples(good, other)
    names = ["manifest.json", "result.json", "samples.jsonl"]
    if (good / "digests.jsonl").exists():
        names.append("digests.jsonl")
        yield from _of_lines(good, "digests.jsonl")
    yield from _of_files(good, names, other)
    yield from _of_files_beside()
    for folder in sorted((good / "judged").glob("*")):
        yield from _inside(every_judged(folder, folder), folder.relative_to(good))


def every_judged(good: Path, other: Path) -> Iterator[Case]:
    """Yields every case for a good folder of a judge; ``other`` is another good one."""
    yield from _of_json(good, {"result.json": forging.forged_result, "judging.json": None})
    yield from _of_lines(good, "judgments.jsonl")
    lines = (good / "judgments.jsonl").read_text().splitlines(keepends=True)
    for one in mutations.mutations(json.loads(lines[0])):
        changed = [one.text + "\n", *lines[1:]]
        yield Case(
            "judgments.jsonl, hashes made again", one.field, one.kind,
            lambda folder, changed=changed: forging.forged_judgments(folder, changed),
        )  # fmt: skip
    yield from _of_files(good, ["result.json", "judging.json", "judgments.jsonl"], other)


def _inside(cases: Iterator[Case], place: Path) -> Iterator[Case]:
    """Yields cases of a folder that lies inside the run."""
    for case in cases:
        yield dataclasses.replace(case, file=f"{place}/{case.file}", apply=lambda folder, case=case: case.apply(folder / place))


def _of_json(good: Path, names: dict[str, Any]) -> Iterator[Case]:
    """Yields changes to JSON files; ``names`` has what writes each with its hashes made again, None where it has none."""
    for name, forge in names.items():
        for one in mutations.mutations(json.loads((good / name).read_text())):
            yield Case(name, one.field, one.kind, lambda folder, one=one, name=name: put(folder / name, one.text))
            if one.data is not None and forge is not None:
                yield Case(
                    f"{name}, hashes made again", one.field, one.kind,
                    lambda folder, one=one, forge=forge: forge(folder, _copy(one.data)),
                )  # fmt: skip


def _of_lines(good: Path, name: str) -> Iterator[Case]:
    """Yields changes to the first line of a file of lines."""
    lines = (good / name).read_text().splitlines(keepends=True)
    for one in mutations.mutations(json.loads(lines[0])):
        text = "".join([one.text + "\n", *lines[1:]])
        yield Case(name, one.field, one.kind, lambda folder, text=text: put(folder / name, text))


def _of_samples(good: Path, other: Path) -> Iterator[Case]:
    lines = (good / "samples.jsonl").read_bytes().splitlines(keepends=True)
    foreign = (other / "samples.jsonl").read_bytes().splitlines(keepends=True)
    for one in mutations.mutations(json.loads(lines[0])):
        yield Case(
            "samples.jsonl", one.field, one.kind,
            lambda folder, one=one: forging.forged_samples(folder, [one.text.encode() + b"\n", *lines[1:]], hashes=False),
        )  # fmt: skip
        yield Case(
            "samples.jsonl, no result", one.field, one.kind,
            lambda folder, one=one: forging.forged_samples_alone(
                folder, [forging.sample_line(one.text, right=False), *lines[1:]]
            ),
        )  # fmt: skip
        line = forging.sample_line(one.text)
        for hashes, how in ((False, "checksum made again"), (True, "hashes made again")):
            yield Case(
                f"samples.jsonl, {how}", one.field, one.kind,
                lambda folder, line=line, hashes=hashes: forging.forged_samples(folder, [line, *lines[1:]], hashes=hashes),
            )  # fmt: skip
    for kind, changed in (
        ("a line twice", [lines[0], *lines]),
        ("other order", lines[::-1]),
        ("a line less", lines[1:]),
        ("a blank line", [*lines, b"\n"]),
        ("half a line", [*lines, lines[0][:50]]),
        ("a line of another run", [*lines, foreign[2]]),
        ("a line of another run in place of its own", [*lines[:2], foreign[2], *lines[3:]]),
    ):
        for hashes in (False, True):
            yield Case(
                f"samples.jsonl, {'hashes made again' if hashes else 'as it is'}", "", kind,
                lambda folder, changed=changed, hashes=hashes: forging.forged_samples(folder, list(changed), hashes=hashes),
            )  # fmt: skip


def _of_files(good: Path, names: list[str], other: Path) -> Iterator[Case]:
    for name in names:
        for kind, change in mutations.of_files(random.Random(SEED), other / name):
            yield Case(name, "", kind, lambda folder, name=name, change=change: change(folder / name))
        for second in names:
            if second != name:
                swap: Callable[[Path], None] = lambda folder, a=name, b=second: _swap(folder / a, folder / b)  # type: ignore[misc]  # noqa: E731
                yield Case(name, "", f"swapped with {second}", swap)


def _of_files_beside() -> Iterator[Case]:
    for name, texts in {
        "audit.json": ("{}", "[]", "{", '{"flips": 1}', '{"flips": NaN, "trials": 0}', "\ud800"),
        "compared_as.json": ("{}", "[]", '{"format": 1, "model": "tulu-2-13b"}', '{"format": 1, "model": 7}', "\x00"),
        "digests.jsonl": ("{}", "[]", "null\n"),
        "samples.jsonl.gz": ("{}", "\x1f\x8b"),
    }.items():
        for number, text in enumerate(texts):
            data = text.encode("utf-8", "surrogatepass")
            yield Case(name, "", f"beside {number}", lambda folder, n=name, d=data: (folder / n).write_bytes(d))
        for kind, make in mutations.MADE.items():
            yield Case(name, "", f"beside, {kind}", lambda folder, n=name, make=make: _made(folder / n, make))


def _made(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink(missing_ok=True)
    make(path)


def _copy(data: Any) -> Any:
    return json.loads(json.dumps(data))


def put(path: Path, text: str) -> None:
    """Writes a text, half characters in it as they are."""
    path.write_bytes(text.encode("utf-8", "surrogatepass"))


def _swap(one: Path, other: Path) -> None:
    spare = one.with_name("spare")
    shutil.move(one, spare)
    shutil.move(other, one)
    shutil.move(spare, other)
