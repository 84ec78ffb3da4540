"""The archive of a bundle: the same parts give the same bytes, every changed byte is seen, hostile files get one line."""

from __future__ import annotations

import contextlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tulu_eval.errors import DataError
from tulu_eval.exchange import archive

KNOWN = ("a.json", "b.txt", "empty")
PARTS = {"a.json": b'{"x": 1}\n', "b.txt": b"one\ntwo\n" * 9, "empty": b""}


def saved(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "x.zip"
    path.write_bytes(data)
    return path


def test_round_trip_and_the_same_bytes_every_time(tmp_path: Path) -> None:
    data = archive.pack(PARTS)
    assert data == archive.pack(dict(PARTS))
    assert archive.unpack(saved(tmp_path, data), KNOWN) == (PARTS, True)
    with zipfile.ZipFile(io.BytesIO(data)) as file:  # as any other tool opens it
        assert file.testzip() is None
        assert file.read("b.txt") == PARTS["b.txt"]


def test_every_changed_byte_is_seen(tmp_path: Path) -> None:
    data = archive.pack(PARTS)
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 0x15
        with contextlib.suppress(DataError):
            _, whole = archive.unpack(saved(tmp_path, bytes(changed)), KNOWN)
            assert not whole


@pytest.mark.parametrize("keep", [0, 1, 21, 22, 60, -1, -22, -100])
def test_a_cut_archive_is_refused(tmp_path: Path, keep: int) -> None:
    with pytest.raises(DataError, match=r"is not a bundle|is cut off|cannot be read"):
        archive.unpack(saved(tmp_path, archive.pack(PARTS)[:keep]), KNOWN)


def made(write: Callable[[zipfile.ZipFile], object], compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as file:
        write(file)
    return stream.getvalue()


def named(name: str, attributes: int = 0o100644) -> Callable[[zipfile.ZipFile], None]:
    info = zipfile.ZipInfo("a")
    info.filename = name
    info.create_system = 3
    info.external_attr = attributes << 16
    return lambda file: file.writestr(info, b"x")


def twice(file: zipfile.ZipFile) -> None:
    file.writestr("a.json", b"1")
    with pytest.warns(UserWarning, match="Duplicate name"):
        file.writestr("a.json", b"2")


HOSTILE = {
    "up": (made(named("../a.json")), "has a part '../a.json', which no bundle of this version has"),
    "inner-up": (made(named("b/../../a.json")), "which no bundle of this version has"),
    "absolute": (made(named("/etc/passwd")), "has a part '/etc/passwd', which no bundle of this version has"),
    "windows": (made(named("..\\a.json")), "which no bundle of this version has"),
    "drive": (made(named("C:\\a.json")), "which no bundle of this version has"),
    "unknown": (made(named("virus.exe")), "has a part 'virus.exe', which no bundle of this version has"),
    "nul": (made(named("a.json\0.exe")), "which no bundle of this version has"),
    "escape": (made(named("\x1b[2J")), "which no bundle of this version has"),
    "twice": (b"", "has the part 'a.json' twice"),
    "bomb": (
        made(lambda f: f.writestr("a.json", b"\0" * 30_000_000), 8),
        "its part 'a.json' is compressed or not where it must be",
    ),
    "many": (made(lambda f: [f.writestr(f"{n}", b"") for n in range(99)]), "has 99 parts in a directory of"),
    "words": (b"hello", "is not a bundle: 'tulu-eval bundle' makes one of a run"),
    "zeros": (b"\0" * 1000, "is not a bundle"),
    "nothing": (b"", "is not a bundle"),
    "gzip": (b"\x1f\x8b" + b"\0" * 100, "is not a bundle"),
    "comment": (archive.pack(PARTS)[:-2] + b"\x05\x00hello", "has other bytes after its end"),
    "joined": (archive.pack(PARTS) + archive.pack(PARTS), "not where it must be"),
}  # fmt: skip


@pytest.mark.parametrize("attributes", [0o120777, 0o040755])
def test_a_link_or_a_folder_is_not_what_pack_makes(tmp_path: Path, attributes: int) -> None:
    assert archive.unpack(saved(tmp_path, made(named("a.json", attributes))), KNOWN) == ({"a.json": b"x"}, False)


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_is_one_line_and_writes_nothing(tmp_path: Path, kind: str) -> None:
    data, message = HOSTILE[kind]
    path = saved(tmp_path, made(twice) if kind == "twice" else data)
    with pytest.raises(DataError) as caught:
        archive.unpack(path, KNOWN)
    assert message in str(caught.value)
    assert str(caught.value).isprintable()
    assert list(tmp_path.iterdir()) == [path]


def test_sizes_that_are_claimed_and_not_there(tmp_path: Path) -> None:
    data = bytearray(archive.pack({"a.json": b"x" * 100}))
    directory = data.rindex(b"PK\x01\x02")
    for place in (18, 22):  # the local header's sizes
        data[place : place + 4] = (1 << 31).to_bytes(4, "little")
    for place in (directory + 20, directory + 24):
        data[place : place + 4] = (1 << 31).to_bytes(4, "little")
    assert archive.unpack(saved(tmp_path, bytes(data)), KNOWN) == ({"a.json": bytes(data[36:])}, False)


def test_too_large_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "LIMIT", 100)
    with pytest.raises(DataError, match="is larger than 100 bytes"):
        archive.unpack(saved(tmp_path, b"PK\x03\x04" + b"x" * 100), KNOWN)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_change_is_an_error_or_is_seen(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    good = archive.pack(PARTS)
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, len(good)))
    changed = good[:start] + data.draw(st.binary(max_size=40)) + good[end:]
    path = saved(tmp_path_factory.mktemp("any"), changed)
    try:
        found = archive.unpack(path, KNOWN)
    except DataError:
        return
    assert (found == (PARTS, True)) == (changed == good)
