"""What can be wrong with a JSON document and with a file, generated from a good one."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Path_ = tuple[str | int, ...]

HOSTILE = "\x1b]0;owned\x07\x1b[31m\r|\n<script>alert(1)</script>\u202e\x9b"
"""Steers a terminal, breaks a Markdown table, is HTML."""

FORMULA = "=1+1"
DEEP = "[" * 300 + "]" * 300


@dataclasses.dataclass(frozen=True, slots=True)
class Raw:
    """JSON text that Python's json would not write."""

    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class Mutation:
    """A changed document.

    Attributes:
        field: Path of what was changed, such as ``model.name``.
        kind: What was done to it.
        text: The document's new text.
        data: The same as data; None where it cannot be.
    """

    field: str
    kind: str
    text: str
    data: Any = None


def values(value: Any) -> Iterator[tuple[str, Any]]:
    """Yields what may stand in the place of a value, by kind."""
    yield "null", None
    yield from (("other type", one) for one in (0, "x", [], {}, True, 1.5, [[]], {"a": 1}) if type(one) is not type(value))
    yield "huge", Raw("9" * 5000)
    yield "nested", Raw(DEEP)
    yield "surrogate", Raw('"\\ud800"')
    yield from (("not a number", Raw(text)) for text in ("NaN", "-Infinity", "1e999"))
    if isinstance(value, str):
        yield from (("empty", ""), ("hostile", HOSTILE), ("formula", FORMULA), ("huge", "y" * 100_000))
        yield "other case", value.swapcase() if value.swapcase() != value else value + "x"
    elif isinstance(value, bool):
        yield "other", not value
    elif isinstance(value, (int, float)):
        yield from (("negative", -1), ("negative", -(10**18)), ("huge", 10**18), ("huge", 10**30), ("huge", 1e300))
        yield from (("zero", type(value)(0)), ("tiny", 5e-324), ("other", value + 1))
    elif isinstance(value, list) and value:
        yield from (("empty", []), ("twice", [*value, value[0]]), ("shorter", value[:-1]), ("other order", value[::-1]))
        yield from (("wrong element", [*value, one]) for one in (None, 1, {}, []))
    elif isinstance(value, dict) and value:
        yield from (("empty", {}), ("unknown field", {**value, "zzz": 1}), ("hostile field", {**value, HOSTILE: "x"}))


def mutations(document: Any) -> Iterator[Mutation]:
    """Yields every mutation of every field of a document; of a list its first element stands for all."""
    for path, value in places(document):
        name = ".".join(map(str, path))
        if path and isinstance(path[-1], str):
            yield _made(document, path, "missing", _MISSING, name)
            yield _made(document, path, "twice in one object", _TWICE, name)
        for kind, other in values(value):
            if (path and other != value) or isinstance(other, Raw) or type(other) is not type(value):
                yield _made(document, path, kind, other, name)


def places(value: Any, path: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    """Yields path and value of everything in a document; objects with many names by their first three."""
    yield path, value
    if isinstance(value, dict):
        for name in list(value)[: None if len(path) < 1 or len(value) < 15 else 3]:
            yield from places(value[name], (*path, name))
    elif isinstance(value, list) and value:
        yield from places(value[0], (*path, 0))


_MISSING, _TWICE = object(), object()


def _made(document: Any, path: Path_, kind: str, other: Any, name: str) -> Mutation:
    if not path:
        return Mutation("", kind, other.text if isinstance(other, Raw) else json.dumps(other), None)
    changed = copy.deepcopy(document)
    inner = changed
    for step in path[:-1]:
        inner = inner[step]
    last: Any = path[-1]
    if other is _MISSING:
        del inner[last]
    elif other is _TWICE:
        inner["@twice@"] = inner[last]
        text = json.dumps(changed).replace('"@twice@"', json.dumps(last))
        return Mutation(name, kind, text)
    elif isinstance(other, Raw):
        inner[last] = "@raw@"
        return Mutation(name, kind, json.dumps(changed).replace('"@raw@"', other.text))
    else:
        inner[last] = other
    return Mutation(name, kind, json.dumps(changed), changed)


def of_files(rng: random.Random) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """Yields what can happen to a file, by kind."""

    def to(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
        return lambda path: _write(path, change(path.read_bytes()))

    def flip(data: bytes) -> bytes:
        at = rng.randrange(len(data))
        return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]

    def in_place(make: Callable[[Path], object]) -> Callable[[Path], None]:
        def done(path: Path) -> None:
            path.unlink()
            make(path)

        return done

    yield from (("truncated", to(lambda data, part=part: data[: int(len(data) * part)])) for part in (0, 0.01, 0.3, 0.7, 0.99))  # type: ignore[misc]
    yield "without its last byte", to(lambda data: data[:-1])
    yield from (("bit flipped", to(flip)) for _ in range(12))
    yield "doubled", to(lambda data: data * 2)
    yield "zeros behind it", to(lambda data: data + bytes(100))
    yield "UTF-16", to(lambda data: data.decode().encode("utf-16"))
    yield "not UTF-8", to(lambda data: data[:40] + b"\xff\xfe" + data[40:])
    yield "missing", in_place(lambda path: None)
    yield "a folder", in_place(Path.mkdir)
    yield "a pipe", in_place(os.mkfifo)
    yield "a link to nothing", in_place(lambda path: path.symlink_to("nowhere"))
    yield "a link to itself", in_place(lambda path: path.symlink_to(path))
    yield "a link to a device", in_place(lambda path: path.symlink_to("/dev/zero"))
    yield "a link to an empty device", in_place(lambda path: path.symlink_to("/dev/null"))
    yield "sparse and large", lambda path: os.truncate(path, 600 << 20)


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
