"""What is opened as a file, and what ends in one line instead."""

from __future__ import annotations

import gzip
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tulu_eval.errors import DataError
from tulu_eval.files import open_file, read_bytes, read_text


def test_a_plain_a_packed_and_a_marked_file_read_the_same(tmp_path: Path) -> None:
    text = "eins\r\nzwei ☃\n"
    for name, data in {
        "plain": text.encode(),
        "marked": b"\xef\xbb\xbf" + text.encode(),
        "packed.txt": gzip.compress(text.encode()),
        "twice": gzip.compress(text.encode()[:5]) + gzip.compress(text.encode()[5:]),
        "both": gzip.compress(b"\xef\xbb\xbf" + text.encode()),
    }.items():
        (tmp_path / name).write_bytes(data)
        assert read_text(tmp_path / name) == text, name
    (tmp_path / "link").symlink_to(tmp_path / "packed.txt")
    assert read_text(tmp_path / "link") == text
    (tmp_path / "empty").write_bytes(b"")
    assert read_bytes(tmp_path / "empty") == b""


def fifo(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


CASES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "no such file"),
    "folder": (lambda path: path.mkdir(), "is a folder, not a file"),
    "pipe": (fifo, "is a pipe, not a file"),
    "socket": (listening, "is a socket, not a file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "is a device, not a file"),
    "dangling": (lambda path: path.symlink_to(path.with_name("nowhere")), "is a broken link"),
    "loop": (lambda path: path.symlink_to(path), "cannot be read: Too many levels of symbolic links"),
    "cut": (lambda path: path.write_bytes(gzip.compress(b"words" * 99)[:-9]), "cannot be unpacked: "),
    "flipped": (
        lambda path: path.write_bytes(gzip.compress(b"words")[:-8] + b"\0" * 8),
        "cannot be unpacked: CRC check failed",
    ),
    "behind": (lambda path: path.write_bytes(gzip.compress(b"words") + b"more"), "cannot be unpacked: Not a gzipped file"),
    "zip": (lambda path: path.write_bytes(b"PK\x03\x04"), "is a zip archive: unpack it first"),
    "zstd": (lambda path: path.write_bytes(b"\x28\xb5\x2f\xfd"), "is compressed by zstd"),
    "utf-16": (lambda path: path.write_text("words", encoding="utf-16"), "is UTF-16: save it as UTF-8"),
    "latin": (lambda path: path.write_bytes(b"a\nb\xe4\n"), ":2: is not UTF-8 (byte 2 of the line)"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_no_file_ends_in_one_line(tmp_path: Path, name: str) -> None:
    make, message = CASES[name]
    path = tmp_path / name
    make(path)
    with pytest.raises(DataError) as caught:
        read_text(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file(tmp_path: Path) -> None:
    (tmp_path / "secret").touch(mode=0)
    with pytest.raises(DataError, match="Permission denied"):
        read_bytes(tmp_path / "secret")


@pytest.mark.parametrize("name", ["a\0b", "n" * 300])
def test_names_that_no_file_can_have(name: str) -> None:
    with pytest.raises(DataError):
        read_bytes(Path(name))


def test_limits_are_said_and_a_bomb_is_not_unpacked_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(b"x" * 1001)
    assert len(read_bytes(path, 1001)) == 1001
    with pytest.raises(DataError, match="has more than 1,000 bytes, the limit for such a file"):
        read_bytes(path, 1000)
    path.write_bytes(gzip.compress(b"\0" * (1 << 26)))
    with pytest.raises(DataError, match="unpacks to more than 1 MiB"):
        read_bytes(path, 1 << 20)
    with open_file(path, limit=1 << 20) as file:
        assert len(file.read(1 << 19)) == 1 << 19
        with pytest.raises(DataError, match="unpacks to more than 1 MiB"):
            file.read()
        assert file.tell() < 1 << 22


def test_nothing_stays_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    for name, (make, _) in CASES.items():
        make(tmp_path / name)
        with pytest.raises(DataError):
            read_text(tmp_path / name)
    (tmp_path / "good").write_bytes(gzip.compress(b"words"))
    with open_file(tmp_path / "good") as file:
        assert stat.S_ISREG(os.stat(tmp_path / "good").st_mode)
        assert file.read() == b"words"
    assert before == (len(os.listdir("/proc/self/fd")) if before else 0)
