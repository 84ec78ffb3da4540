"""Hashes of files: of small ones always the true one, of large ones remembered; nothing but a file is read."""

from __future__ import annotations

import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from tulu_eval import caching
from tulu_eval.benchmarks import gsm_symbolic
from tulu_eval.errors import DataError, UserError
from tulu_eval.judging import gamed
from tulu_eval.runs import rates, remembered


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/tulu-eval/sha256"


def change(path: Path, text: str) -> None:
    """Changes a file and leaves its size and time as they are."""
    state = path.stat()
    path.write_text(text)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def test_a_changed_byte_with_the_old_time_is_noticed_in_a_small_file(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("one")
    assert caching.file_sha256(path) == hashlib.sha256(b"one").hexdigest()
    change(path, "two")
    assert caching.file_sha256(path) == hashlib.sha256(b"two").hexdigest()
    assert not cache.exists()


def test_a_large_file_is_hashed_once(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching, "SMALL", 2)
    path = tmp_path / "weights"
    path.write_text("one")
    first = caching.file_sha256(path)
    change(path, "two")
    assert caching.file_sha256(path) == first
    (note,) = cache.iterdir()
    note.write_text("nonsense")
    assert caching.file_sha256(path) == hashlib.sha256(b"two").hexdigest()


@pytest.mark.usefixtures("cache")
def test_of_those_who_ask_at_once_one_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching, "SMALL", 2)
    path = tmp_path / "weights"
    path.write_text("one")
    hashed, digest = [], hashlib.file_digest

    def slowly(file: BinaryIO, name: str) -> Any:
        hashed.append(file)
        time.sleep(0.3)
        return digest(file, name)

    monkeypatch.setattr(hashlib, "file_digest", slowly)
    with ThreadPoolExecutor(8) as ranks:
        found = set(ranks.map(caching.file_sha256, [path] * 8))
    assert found == {hashlib.sha256(b"one").hexdigest()}
    assert len(hashed) == 1


def test_what_is_no_file_and_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="is a pipe, not a file"):
        caching.file_sha256(tmp_path / "pipe")
    assert caching.read_json(tmp_path / "pipe") == caching.read_json(Path("/dev/zero")) == {}
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(UserError, match="set XDG_CACHE_HOME to a folder"):
        caching.cache_folder()
    monkeypatch.setattr(caching, "SMALL", 2)
    (tmp_path / "weights").write_text("one")
    assert caching.file_sha256(tmp_path / "weights") == hashlib.sha256(b"one").hexdigest()


def test_what_only_saves_time_needs_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user has no name: items, rates and readings are made anew, and nothing fails."""
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.setattr(gsm_symbolic, "_generated", lambda size, seed: [("How many?", "1")] * size)
    monkeypatch.setattr(rates, "measure_rates", lambda device, dtype: rates.Rates(1e12, 9e9))
    assert len(gsm_symbolic.generate(2, 0)) == 2
    assert rates.machine_rates("cpu", "float32", rates.NOTHING_DONE) == rates.Rates(1e12, 9e9)
    assert remembered.recall("0" * 64) is None
    assert gamed.copies() == []
    assert gamed.find_gamed("") is None
