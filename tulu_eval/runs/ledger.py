r"""The ledger of a run has one line per sample. It appends and flushes a line when a sample finishes.

A line is JSON. Key, item and status come first; grades, time and a CRC-32 of all before it come last::

    {"key":"<sha256>","item":"test-1309","status":"ok",...,"grades":[...],"seconds":0.25,"crc":"1f2e3d4c"}

In this order a reader can check, index and aggregate a ledger without parsing whole lines: a million samples score in seconds.
The key is the hash of everything that can change the completion, so samples of another model or setting have other keys. If two
lines have the same key and item, the later one counts. A killed process leaves at most one line without an end; the next call
cuts it off and makes the sample again. A line with a wrong checksum is reported, moves to ``samples.corrupt.jsonl``, and its
sample is made again. A run owns a sample only if its manifest has both key and item; readers ask for such pairs
(:data:`Asked`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from tulu_eval import files
from tulu_eval.errors import DataError, UserError
from tulu_eval.records import Completion, Grade, Status
from tulu_eval.runs import schema
from tulu_eval.runs.packed import packed, unpack, unpack_in_place

_HEAD = re.compile(
    rb'\{"key":"([0-9a-f]{64})","item":"((?:[^"\\]|\\.)*)","status":"([a-z_]+)",(?:"group":"((?:[^"\\]|\\.)*)",)?'
)
_GRADES, _SECONDS = b',"grades":', b',"seconds":'  # inside a string their quotes would be escaped
_SCORE = re.compile(rb',"score":([^,}]+)(?:,"weight":([^}]+))?\}')
_TAIL = len(b',"crc":"00000000"}\n')

Asked = Sequence[tuple[str, str]]
"""Key and item of each sample that a run asked for."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """One graded completion of one item.

    Attributes:
        item: Id of the item.
        target: The right answer.
        prompt_sha256: Hash of the prompt's text.
        completion: The model's completion.
        status: Class of the sample, e.g. ``ok`` or ``engine_error``.
        grades: One grade per scorer.
        group: Group of the item; empty for none.
    """

    item: str
    target: str
    prompt_sha256: str
    completion: Completion
    status: Status
    grades: tuple[Grade, ...]
    group: str = ""

    @property
    def marks(self) -> Marks:
        """The part of the sample that aggregation needs."""
        return _marks(self.status, [(grade.score, grade.weight) for grade in self.grades], self.group)


@dataclasses.dataclass(frozen=True, slots=True)
class Marks:
    """The part of a sample that aggregation needs; a million of them fit in memory.

    Attributes:
        status: Class of the sample.
        scores: One score per scorer, 0 to 1.
        weights: One weight per scorer; empty if all weights are 1.
        group: Group of the item; empty for none.
    """

    status: str
    scores: tuple[float, ...]
    weights: tuple[float, ...] = ()
    group: str = ""


def _marks(status: str, scored: Sequence[tuple[float, float]], group: str) -> Marks:
    weights = tuple(weight for _, weight in scored)
    return Marks(status, tuple(score for score, _ in scored), () if all(one == 1 for one in weights) else weights, group)


def encode(sample: Sample) -> bytes:
    """Returns the ledger's line of a sample, with its checksum."""
    completion = dataclasses.asdict(sample.completion)
    seconds = completion.pop("seconds")
    line = {
        "key": completion.pop("key"),
        "item": sample.item,
        "status": sample.status,
        **({"group": sample.group} if sample.group else {}),
        "target": sample.target,
        "prompt_sha256": sample.prompt_sha256,
        **completion,
        "grades": [_grade(grade) for grade in sample.grades],
        "seconds": seconds,
    }
    body = json.dumps(line, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()
    return body[:-1] + b',"crc":"%08x"}\n' % zlib.crc32(body[:-1])


def _grade(grade: Grade) -> dict[str, str | bool | float]:
    """Returns a grade in the form of a line, without its weight if that is 1."""
    data = dataclasses.asdict(grade)
    weight = float(data.pop("weight"))
    return data if weight == 1 else {**data, "weight": weight}


def decode(line: bytes) -> Sample:
    """Returns the sample of an intact line.

    Raises:
        ValueError: If :func:`encode` did not make the line.
    """
    if not intact(line):
        raise ValueError("checksum or form is wrong")
    place = files.Place("the line")
    try:
        try:
            data = files.decode(line, schema.SampleLine, place)
        except DataError:
            if b"\\u" not in line:
                raise
            data = files.checked(files.parse_json(line, place, halves=True), schema.SampleLine, place)
    except DataError as error:
        raise ValueError(f"a field is missing or of another type: {error}") from error
    completion = Completion(
        key=data.key,
        text=data.text,
        token_ids=tuple(data.token_ids),
        finish_reason=data.finish_reason,
        seconds=data.seconds,
        error=data.error,
    )
    grades = tuple(Grade(one.scorer, one.answer, one.answered, one.score, one.weight) for one in data.grades)
    sample = Sample(data.item, data.target, data.prompt_sha256, completion, data.status, grades, data.group)
    if marks(line) != (sample.item, sample.marks):
        raise ValueError("its fields are not in their order")
    return sample


def asked_of(sample: Sample) -> tuple[str, str, str, str]:
    """Returns the question that a sample answers: item, key, right answer and hash of the prompt."""
    return sample.item, sample.completion.key, sample.target, sample.prompt_sha256


def marks(line: bytes) -> tuple[str, Marks]:
    """Returns item and marks of an intact line; does not parse the rest of the line.

    Raises:
        ValueError: If the line does not begin as a ledger's line does.
    """
    head = _HEAD.match(line)
    if head is None:
        raise ValueError("not a line of a ledger")
    scored = [(float(score), float(weight or 1)) for score, weight in _SCORE.findall(line, line.rindex(_GRADES))]
    return _text(head[2]), _marks(head[3].decode(), scored, _text(head[4] or b""))


def _text(inner: bytes) -> str:
    """Returns the text of a JSON string whose quotes were removed."""
    text: str = files.parse_json(b'"%b"' % inner, files.Place("text"), halves=True) if b"\\" in inner else inner.decode()
    return text


def timeless(line: bytes) -> bytes:
    """Returns an intact line without its time and checksum; equal samples give equal bytes."""
    return line[: line.rindex(_SECONDS)]


def ungraded(line: bytes) -> bytes:
    """Returns an intact line without status, grades, time and checksum; the question and the answer are left.

    Raises:
        ValueError: If the line does not begin as a ledger's line does.
    """
    head = _HEAD.match(line)
    if head is None:
        raise ValueError("not a line of a ledger")
    return line[: head.end(2)] + line[head.end(3) + len('",') : line.rindex(_GRADES)]


def intact(line: bytes) -> bool:
    """Whether a line is whole and its checksum right."""
    if not line.endswith(b'"}\n') or len(line) < _TAIL or line[-_TAIL : -_TAIL + 8] != b',"crc":"' or not _HEAD.match(line):
        return False
    return b"%08x" % zlib.crc32(line[:-_TAIL]) == line[-11:-3]


class Ledger:
    """An open ledger; use it as a context manager.

    Args:
        path: ``samples.jsonl`` of a run folder that this process has locked; made if it is missing. If only its packed form
            exists, that is read, and unpacked in place before the first write.
        read_only: Index the intact lines and change no file.

    Attributes:
        corrupt: Numbers of the lines, from 1 on, whose checksum or form was wrong on opening.
        cut: Whether the last line had no end on opening.

    Raises:
        UserError: If the file cannot be read, unpacked or written.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self.corrupt: list[int] = []
        self.cut = False
        self._offsets: dict[bytes, int] = {}
        self._failed: set[bytes] = set()
        self._end = 0
        self._file: BinaryIO | None = None
        self._unpacked: BinaryIO | None = None
        if not read_only:
            files.remove_leftovers(path)
        try:
            if not path.exists() and packed(path).exists():
                if read_only:
                    self._unpacked = unpack(path)
                else:
                    unpack_in_place(path)
            if path.exists():
                files.open_regular(path).close()
            if self._unpacked or path.exists():
                self._index()
            if not read_only:
                if self.corrupt:
                    self._set_aside()
                self._file = path.open("ab")
                self._file.truncate(self._end)
        except OSError as error:
            raise UserError(f"the ledger {path} cannot be opened: {error.strerror}") from error

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._offsets)

    def has(self, key: str, item: str) -> bool:
        """Whether the ledger has a sample of a key and an item on which the engine did not fail."""
        name = _name(key, item)
        return name in self._offsets and name not in self._failed

    def append(self, sample: Sample) -> None:
        """Appends a sample and hands it to the operating system before it returns, so that a kill cannot lose it.

        Raises:
            UserError: If the disk is full or fails; all earlier samples stay intact.
        """
        if self._file is None:
            raise ValueError("the ledger is not open for writing")
        line = encode(sample)
        start = self._file.seek(0, os.SEEK_END)
        try:
            self._file.write(line)
            self._file.flush()
        except OSError as error:
            self._drop_after(start)
            raise UserError(
                f"writing {self.path} failed: {error.strerror}; {len(self)} samples are kept. "
                "Free some space and run the same command again to go on"
            ) from error
        self._note(_name(sample.completion.key, sample.item), sample.status.encode(), start)

    def samples(self, asked: Asked | None = None) -> Iterator[Sample]:
        """Yields the samples of :meth:`lines`; only one of them is in memory at a time.

        Raises:
            DataError: If a line has the right checksum and is not a sample.
        """
        for line in self.lines(asked):
            try:
                yield decode(line)
            except ValueError as error:
                raise DataError(self.path, f"a line is no sample: {error}") from error

    def lines(self, asked: Asked | None = None) -> Iterator[bytes]:
        """Yields the line of each sample, unchanged and in the order of the file; the later of two lines for one key and item.

        Args:
            asked: Samples to yield; ``None`` for all.
        """
        if asked is None:
            offsets = sorted(self._offsets.values())
        else:
            names = (_name(key, item) for key, item in asked)
            offsets = sorted(self._offsets[name] for name in names if name in self._offsets)
        yield from self._lines_at(offsets)

    def strangers(self, asked: Asked) -> list[str]:
        """Returns the items of the ledger's samples that are not in ``asked``, in the order of the file."""
        return [marks(line)[0] for line in self._others(asked)]

    def set_strangers_aside(self, asked: Asked) -> int:
        """Moves the samples that are not in ``asked`` to ``samples.other.jsonl``; returns their number."""
        strange = set(self._others(asked))
        if strange:
            self._move(".other.jsonl", lambda _, line: line in strange)
        return len(strange)

    def _others(self, asked: Asked) -> list[bytes]:
        found = sum(_name(key, item) in self._offsets for key, item in asked)
        if found == len(self._offsets):
            return []
        names = {_name(key, item) for key, item in asked}
        return list(self._lines_at(sorted(at for name, at in self._offsets.items() if name not in names)))

    def _lines_at(self, offsets: Sequence[int]) -> Iterator[bytes]:
        if not offsets:
            return
        with self._reading() as file:
            for offset in offsets:
                file.seek(offset)
                yield file.readline()

    def close(self) -> None:
        """Forces the file to the disk and closes it."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # append has reported a full disk already
                os.fsync(self._file.fileno())
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None
        if self._unpacked is not None:
            self._unpacked.close()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[BinaryIO]:
        """Yields the ledger as an open file, at its first byte."""
        if self._unpacked is not None:
            self._unpacked.seek(0)
            yield self._unpacked
        else:
            with self.path.open("rb") as file:
                yield file

    def _index(self) -> None:
        offset = 0
        self._end = 0
        with self._reading() as file:
            for number, line in enumerate(iter(functools.partial(file.readline, files.LINE + 1), b""), start=1):
                if len(line) > files.LINE:
                    raise DataError(self.path, f"is longer than {files.LINE:,} bytes, the longest line that is read", number)
                if intact(line):
                    head = _HEAD.match(line)
                    if head is not None:
                        self._note(bytes.fromhex(head[1].decode()) + head[2], head[3], offset)
                elif line.endswith(b"\n"):
                    self.corrupt.append(number)
                else:
                    self.cut = True
                    break
                offset += len(line)
                self._end = offset

    def _note(self, name: bytes, status: bytes, offset: int) -> None:
        self._offsets[name] = offset
        if status == b"engine_error":
            self._failed.add(name)
        else:
            self._failed.discard(name)

    def _set_aside(self) -> None:
        """Moves corrupt lines to ``samples.corrupt.jsonl``."""
        bad = set(self.corrupt)
        self._move(".corrupt.jsonl", lambda number, _: number in bad)

    def _move(self, suffix: str, chosen: Callable[[int, bytes], bool]) -> None:
        """Moves chosen lines to another file and replaces the ledger in one step; ``chosen`` gets a line's number from 1 on."""
        away = self.path.with_suffix(suffix)
        with self.path.open("rb") as old, files.replacing(self.path) as new, away.open("ab") as aside:
            for number, line in enumerate(old, start=1):
                if line.endswith(b"\n"):
                    (aside if chosen(number, line) else new).write(line)
            aside.flush()
            os.fsync(aside.fileno())
        self._offsets.clear()
        self._failed.clear()
        kept, self.corrupt = self.corrupt, []
        self.cut = False
        self._index()
        self.corrupt = kept
        if self._file is not None:
            self._file.close()
            self._file = self.path.open("ab")

    def _drop_after(self, end: int) -> None:
        """Removes a line that was written in part; closes the file first, since its buffer may hold the rest of the line."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None
        with contextlib.suppress(OSError):
            os.truncate(self.path, end)


def _name(key: str, item: str) -> bytes:
    return bytes.fromhex(key) + json.dumps(item)[1:-1].encode()
