"""GGUF files that are none, or not whole, end in one line; what a killed conversion left is gone at the next."""

from __future__ import annotations

import importlib.util
import struct
from pathlib import Path

import pytest

from tulu_eval.errors import DataError, PreflightError, UserError
from tulu_eval.models import gguf, gguf_header, model_files

ENTRY = struct.pack("<Q", 20) + b"general.architecture" + struct.pack("<IQ", 8, 5) + b"llama"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def head(version: int, tensors: int, entries: int) -> bytes:
    return gguf_header.MAGIC + struct.pack("<IQQ", version, tensors, entries)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not a GGUF file"),
        (b"GGU", "is not a GGUF file"),
        (b"GGUF", "is a cut or corrupt GGUF file"),
        (head(3, 2**60, 0), "is a cut or corrupt GGUF file"),
        (head(3, 0, 2**60), "is a cut or corrupt GGUF file"),
        (head(3, 1, 1), "is a cut or corrupt GGUF file"),
        (head(1, 0, 0), "is of GGUF version 1; versions 2 and 3 can be read"),
        (head(0x3000000, 0, 0), "is of GGUF version 50331648"),
    ],
)
def test_headers_that_lie(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message):
        model_files.from_path(path)


@pytest.mark.skipif(importlib.util.find_spec("gguf") is None, reason="the package gguf is not installed")
@pytest.mark.parametrize(
    "data",
    [
        head(3, 0, 0),
        head(3, 0, 1) + ENTRY,
        head(3, 0, 1) + ENTRY.replace(b"llama", b"lla\xff\xfe"),
        head(3, 0, 1) + struct.pack("<Q", 2**63) + b"x" * 40,
        head(3, 0, 1) + struct.pack("<Q", 1) + b"a" + struct.pack("<I", 99) + b"x" * 40,
        head(3, 0, 1) + struct.pack("<Q", 1) + b"a" + struct.pack("<IIQ", 9, 4, 2**40) + b"x" * 40,
        head(3, 1, 1) + ENTRY + struct.pack("<Q", 1) + b"t" + struct.pack("<IQQIQ", 2, 2**40, 2**40, 0, 0) + b"x" * 64,
        head(3, 1, 1) + ENTRY + struct.pack("<Q", 1) + b"t" + struct.pack("<IQIQ", 1, 4, 0, 2**62) + b"x" * 64,
        head(3, 2, 2) + ENTRY + bytes(range(256)) * 2,
    ],
)
def test_what_is_behind_the_header_is_not_believed_either(tmp_path: Path, cache: Path, data: bytes) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    with pytest.raises(UserError) as caught:
        model_files.from_path(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert not list(cache.rglob("*.tmp"))


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.gguf: no such file"):
        gguf.folder_of(tmp_path / "absent.gguf")


@pytest.mark.skipif(importlib.util.find_spec("gguf") is None, reason="the package gguf is not installed")
def test_a_cache_that_cannot_be_written(tmp_path: Path, cache: Path) -> None:
    cache.write_text("a file")
    path = tmp_path / "m.gguf"
    path.write_bytes(head(3, 0, 1) + ENTRY)
    with pytest.raises(PreflightError, match=r"the cache .* cannot be written: .*; set XDG_CACHE_HOME"):
        model_files.from_path(path)


@pytest.mark.skipif(importlib.util.find_spec("gguf") is None, reason="the package gguf is not installed")
def test_what_a_killed_conversion_left_goes(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / f"{'ä' * 120}.gguf"
    path.write_bytes(head(3, 0, 1) + ENTRY)
    for _ in range(2):
        with pytest.raises(DataError, match="transformers cannot read this GGUF file"):
            model_files.from_path(path)
        (lock,) = [file for file in (cache / "tulu-eval" / "gguf").iterdir() if file.name.startswith(".")]
        draft = lock.with_suffix(".tmp")
        assert not draft.exists()
        draft.mkdir()
