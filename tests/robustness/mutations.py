"""What can be wrong with a JSON document and with a file, generated from a good one."""

from __future__ import annotations

import copy
import dataclasses
import gzip
import json
import os
import random
import socket
from collections import Counter
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
        seen: Counter[str] = Counter()
        if path and isinstance(path[-1], str):
            yield _made(document, path, "missing", _MISSING, name)
            yield _made(document, path, "twice in one object", _TWICE, name)
        for kind, other in values(value):
            if (path and other != value) or isinstance(other, Raw) or type(other) is not type(value):
                seen[kind] += 1
                yield _made(document, path, f"{kind} {seen[kind]}", other, name)


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


MADE: dict[str, Callable[[Path], object]] = {
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to an empty device": lambda path: path.symlink_to("/dev/null"),
    "a link to a folder": lambda path: path.symlink_to("/"),
    "a socket": lambda path: _socket(path),
}
"""What else than a file can stand in its place."""


def of_files(rng: random.Random, other: Path | None = None) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """Yields what can happen to a file, by kind, each once; ``other`` is a good file that belongs somewhere else."""

    def to(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
        return lambda path: _write(path, change(path.read_bytes()))

    def flip(place: float, bit: int) -> Callable[[bytes], bytes]:
        def flipped(data: bytes) -> bytes:
            at = int(len(data) * place)
            return data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :]

        return flipped

    def in_place(make: Callable[[Path], object]) -> Callable[[Path], None]:
        def done(path: Path) -> None:
            path.unlink()
            make(path)

        return done

    for part in (0, 0.01, 0.3, 0.5, 0.7, 0.99):
        yield f"truncated to {part:.0%}", to(lambda data, part=part: data[: int(len(data) * part)])  # type: ignore[misc]
    for number in range(20):
        yield f"bit flipped {number}", to(flip(rng.random(), rng.randrange(8)))
    yield "without its last byte", to(lambda data: data[:-1])
    yield "without its first byte", to(lambda data: data[1:])
    yield "doubled", to(lambda data: data * 2)
    yield "zeros behind it", to(lambda data: data + bytes(100))
    yield "zeros in it", to(lambda data: data[:30] + bytes(30) + data[60:])
    yield "UTF-16", to(lambda data: data.decode("latin-1").encode("utf-16"))
    yield "not UTF-8", to(lambda data: data[:40] + b"\xff\xfe" + data[40:])
    yield "gzip of half", to(lambda data: gzip.compress(data)[: len(gzip.compress(data)) // 2])
    yield "gzip of a bomb", to(lambda data: gzip.compress(data[:-1] + b" " * (64 << 20)))
    yield "deep", to(lambda data: b"[" * 100_000 + b"]" * 100_000)
    yield "missing", in_place(lambda path: None)
    yield from ((kind, in_place(make)) for kind, make in MADE.items())
    yield "sparse and large", lambda path: os.truncate(path, 600 << 20)
    if other is not None and other.exists():
        yield "that of another", to(lambda data: other.read_bytes())
        yield "a link to that of another", in_place(lambda path: path.symlink_to(other))


def _socket(path: Path) -> None:
    """Makes a socket; its address has at most 107 bytes, so it is made from inside its folder."""
    before = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(before)


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
