"""The ledger: round trip, cut at every byte, corrupt lines, a full disk, a million lines' worth of rules."""

from __future__ import annotations

import errno
import os
import zlib
from pathlib import Path
from typing import Any

import pytest

from tulu_eval.errors import DataError, UserError
from tulu_eval.records import Completion, Grade
from tulu_eval.store.ledger import Ledger
from tulu_eval.store.sample_line import Sample, encode


def sample(number: int, text: str = "So the answer is 4.", *, failed: bool = False) -> Sample:
    completion = Completion(
        f"{number:064x}", text, (1, 2, number), "error" if failed else "stop", 0.25, "died" if failed else ""
    )
    grades = (Grade("last-number", "4", True, 1.0),)
    return Sample(f"test-{number}", "4", "ab" * 32, completion, "engine_error" if failed else "ok", grades)


def write(path: Path, samples: list[Sample]) -> bytes:
    with Ledger(path) as ledger:
        for one in samples:
            ledger.append(one)
    return path.read_bytes()


def test_samples_come_back_in_order_and_only_once_each(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    write(path, [sample(1), sample(2), sample(1, "later")])
    with Ledger(path) as ledger:
        assert [(one.item, one.completion.text) for one in ledger.samples()] == [
            ("test-2", "So the answer is 4."),
            ("test-1", "later"),
        ]
        assert len(ledger) == 2
        assert ledger.has(f"{1:064x}", "test-1")
        assert not ledger.has(f"{1:064x}", "test-2")
        assert not ledger.has(f"{3:064x}", "test-3")


def test_what_the_engine_failed_on_is_redone(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    write(path, [sample(1, failed=True)])
    with Ledger(path) as ledger:
        assert len(ledger) == 1
        assert not ledger.has(f"{1:064x}", "test-1")
        ledger.append(sample(1))
        assert ledger.has(f"{1:064x}", "test-1")


def test_cut_at_every_byte_of_the_last_two_lines(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    whole = write(path, [sample(1), sample(2), sample(3)])
    ends = [index + 1 for index, byte in enumerate(whole) if byte == 10]
    for length in range(ends[0], len(whole) + 1):
        path.write_bytes(whole[:length])
        complete = sum(end <= length for end in ends)
        with Ledger(path) as ledger:
            assert len(ledger) == complete
            assert ledger.cut == (length not in ends)
            assert not ledger.corrupt
            for number in range(complete + 1, 4):
                ledger.append(sample(number))
        assert path.read_bytes() == whole


def test_corrupt_lines_are_set_aside_reported_and_redone(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    lines = write(path, [sample(1), sample(2), sample(3)]).splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1].replace(b"answer is 4", b"answer is 5") + lines[2] + lines[0][:20])
    with Ledger(path) as ledger:
        assert ledger.corrupt == [2]
        assert [one.item for one in ledger.samples()] == ["test-1", "test-3"]
        ledger.append(sample(2))
    assert (tmp_path / "samples.corrupt.jsonl").read_bytes() == lines[1].replace(b"answer is 4", b"answer is 5")
    with Ledger(path) as ledger:
        assert (len(ledger), ledger.corrupt, ledger.cut) == (3, [], False)


def test_read_only_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    whole = write(path, [sample(1), sample(2)])
    path.write_bytes(b"junk\n" + whole + b"{")
    with Ledger(path, read_only=True) as ledger:
        assert (len(ledger), ledger.corrupt, ledger.cut) == (2, [1], True)
        with pytest.raises(ValueError, match="not open for writing"):
            ledger.append(sample(3))
    assert path.read_bytes() == b"junk\n" + whole + b"{"


def append_all(ledger: Ledger, numbers: range) -> None:
    for number in numbers:
        ledger.append(sample(number))


class Full:
    """A file on a disk that becomes full after a number of bytes; writes as much as fits first, as a disk does."""

    def __init__(self, file: Any, room: int) -> None:
        self.file, self.room = file, room

    def write(self, line: bytes) -> int:
        fits = line[: max(self.room, 0)]
        self.room -= len(line)
        self.file.write(fits)
        if len(fits) < len(line):
            self.file.flush()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return len(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


@pytest.mark.parametrize("room", [0, 1, 100, 400])
def test_full_disk_keeps_every_whole_line(tmp_path: Path, room: int) -> None:
    path = tmp_path / "samples.jsonl"
    before = write(path, [sample(1)])
    ledger = Ledger(path)
    ledger._file = Full(ledger._file, room)  # type: ignore[assignment]
    with pytest.raises(UserError, match=r"No space left on device; \d samples are kept. Free some space"):
        append_all(ledger, range(2, 9))
    ledger.close()
    after = path.read_bytes()
    assert after.startswith(before)
    assert after.endswith(b"\n")
    with Ledger(path) as again:
        assert not again.corrupt
        assert not again.cut


def test_a_line_with_its_checksum_that_is_no_sample_is_an_error_of_the_file(tmp_path: Path) -> None:
    body = encode(sample(1)).replace(b'"token_ids":[1,2,1]', b'"token_ids":{}').rpartition(b',"crc"')[0]
    (tmp_path / "samples.jsonl").write_bytes(body + b',"crc":"%08x"}\n' % zlib.crc32(body))
    with (
        Ledger(tmp_path / "samples.jsonl", read_only=True) as ledger,
        pytest.raises(DataError, match=r"samples\.jsonl: a line is"),
    ):
        list(ledger.samples())
