"""The cache of a judge's paid answers: one JSON line per answer, appended and flushed to the disk at once, never rewritten.

A line has the question's key and the judge's raw choice, so that a new parser can read old answers. It has no text of an
instruction or an output. The cache holds no failures, so the next run asks those questions again. The reader removes a last
line that a kill cut off; one file has one writer at a time.
"""

from __future__ import annotations

import fcntl
import math
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from tulu_eval import files
from tulu_eval.endpoint.answer import text_of
from tulu_eval.errors import DataError, UserError
from tulu_eval.judging.budget import JudgeUsage
from tulu_eval.judging.judge_answer import first_alternatives
from tulu_eval.records import to_json


class Stored(files.Record, frozen=True):
    """One answer: a line of the file.

    Attributes:
        judge: The model's name in the request.
        served: The model's name in the reply.
        choice: ``choices[0]``, reduced to the parts that a verdict needs.
        time: Time of the answer, ISO 8601 in UTC.
    """

    key: str
    judge: str
    served: str
    choice: dict[str, Any]
    usage: JudgeUsage
    time: str


def reduce_choice(choice: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the parts of a choice that a verdict needs: finish reason, text, refusal, the first token's alternatives."""
    message = choice.get("message")
    message = message if isinstance(message, Mapping) else {}
    said = {"content": text_of(message) if message.get("content") is not None else None, "refusal": message.get("refusal")}
    reduced: dict[str, Any] = {
        "finish_reason": choice.get("finish_reason"),
        "message": {name: value for name, value in said.items() if value is not None},
    }
    top = first_alternatives(choice.get("logprobs"))
    if top is not None:  # a probability of 0 comes as -Infinity, which is not JSON
        kept = [{"token": token, "logprob": logprob} for token, logprob in top if math.isfinite(logprob)]
        reduced["logprobs"] = {"content": [{"top_logprobs": kept}]}
    return reduced


class Cache:
    """The answers in one file; a thread-safe context manager.

    Args:
        path: The file; the cache creates its folder.
        read_only: Read only: a missing file counts as empty, and nothing is written, created or locked.

    Raises:
        UserError: If another process writes to the file, or it cannot be opened, is not a regular file, or is too large.
        DataError: If a line other than the last is broken.
    """

    def __init__(self, path: Path, read_only: bool = False) -> None:
        self.path = path
        self._read_only = read_only
        self._lock = threading.Lock()
        try:
            if path.exists() and not path.is_file():
                raise UserError(f"the judge's cache {path} cannot be opened: it is not a regular file")
            if read_only:
                path = path if path.exists() else Path(os.devnull)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("rb" if read_only else "a+b", buffering=0)
        except OSError as error:
            raise UserError(f"the judge's cache {path} cannot be opened: {error.strerror}") from error
        try:
            if not read_only:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._stored = self._read()
        except BlockingIOError as error:
            self._file.close()
            raise UserError(f"another process is judging into {path}; wait for it or give another --cache") from error
        except DataError:
            self._file.close()
            raise

    def _read(self) -> dict[str, Stored]:
        """Returns the stored answers, and repairs the end of a file whose writer was killed."""
        if self._file.seek(0, os.SEEK_END) > files.LARGEST:
            raise DataError(self.path, f"has more than {files.LARGEST:,} bytes; give another --cache")
        self._file.seek(0)
        whole, _, tail = self._file.read().rpartition(b"\n")
        stored: dict[str, Stored] = {}
        for number, line in enumerate(whole.split(b"\n"), start=1):
            try:
                record = _parse(line) if line.strip() else None
            except DataError as error:
                raise DataError(self.path, "is not a stored judgment; remove the line", number) from error
            if record is not None:
                stored.setdefault(record.key, record)
        if tail:
            try:
                record = _parse(tail)
            except DataError:
                if not self._read_only:
                    self._file.truncate(self._file.seek(0, os.SEEK_END) - len(tail))
            else:
                stored.setdefault(record.key, record)
                if not self._read_only:
                    self._append(b"\n")
        return stored

    def get(self, key: str) -> Stored | None:
        """Returns the answer to a question, ``None`` if there is none."""
        return self._stored.get(key)

    def __len__(self) -> int:
        return len(self._stored)

    def add(self, record: Stored) -> None:
        """Writes an answer and waits until it is on the disk.

        Raises:
            UserError: If the file cannot be written, e.g. on a full disk.
        """
        line = to_json(msgspec.to_builtins(record)).encode("utf-8", "surrogatepass") + b"\n"
        with self._lock:
            end = self._file.seek(0, os.SEEK_END)
            try:
                self._append(line)
            except OSError as error:
                self._file.truncate(end)
                raise UserError(f"the judge's cache {self.path} cannot be written: {error.strerror}") from error
            self._stored[record.key] = record

    def _append(self, line: bytes) -> None:
        while line:
            line = line[self._file.write(line) :]
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file and lets another process write."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _parse(line: bytes) -> Stored:
    """Returns a line; raises DataError if it is none, or cut."""
    place = files.Place("a line")
    return files.checked(files.parse_json(line, place, halves=True), Stored, place)
