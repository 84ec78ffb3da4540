"""The ledger of a run has one line per sample. It appends and flushes a line when a sample finishes.

Lines have a form from which a reader can check, index and aggregate a ledger without parsing whole lines
(:mod:`tulu_eval.store.sample_line`): a million samples score in seconds. The key is the hash of everything that can change the
completion, so samples of another model or setting have other keys. If two lines have the same key and item, the later one
counts. A killed process leaves at most one line without an end; the next call cuts it off and makes the sample again. A line
with a wrong checksum is reported, moves to ``samples.corrupt.jsonl``, and its sample is made again. A run owns a sample only if
its manifest has both key and item; readers ask for such pairs (:data:`Asked`).
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from tulu_eval import files
from tulu_eval.errors import DataError, UserError
from tulu_eval.store.packed import packed, unpack, unpack_in_place
from tulu_eval.store.sample_line import Sample, decode, encode, head, intact, marks

Asked = Sequence[tuple[str, str]]
"""Key and item of each sample that a run asked for."""


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
                if bad := set(self.corrupt):
                    self._move(".corrupt.jsonl", lambda number, _: number in bad)
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

        ``asked`` has the samples to yield; ``None`` for all.
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
                    key, item, status = head(line)
                    self._note(key + item, status, offset)
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
