"""A file is there whole or not at all, and nothing is left beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulu_eval.errors import UserError
from tulu_eval.files import replacing_folder, write_json, write_text
from tulu_eval.files import writing as module


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_with_its_folder_and_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "a.json"
    write_json(path, {"b": ["ä", 1.5]})
    assert json.loads(path.read_text(encoding="utf-8")) == {"b": ["ä", 1.5]}
    write_text(path, "line\r\n")
    assert path.read_bytes() == b"line\r\n"
    assert names(path.parent) == ["a.json"]


def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True)
    dead, alive = done.stdout.strip(), os.getppid()
    for name in (f".a.json.{dead}", f".a.json.{alive}", f".b.json.{dead}", ".a.json.old", ".a.json.", f".a.json.{'9' * 40}"):
        (tmp_path / name).touch()
    write_text(tmp_path / "a.json", "x")
    assert names(tmp_path) == sorted([f".a.json.{alive}", f".b.json.{dead}", ".a.json.old", ".a.json.", "a.json"])


def test_names_are_not_patterns(tmp_path: Path) -> None:
    (tmp_path / ".abc.999999999").touch()
    write_text(tmp_path / "a*c", "x")
    assert names(tmp_path) == [".abc.999999999", "a*c"]


@pytest.mark.parametrize("stopped", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_the_old_file_stays_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: BaseException
) -> None:
    path = tmp_path / "a.json"
    write_text(path, "old")

    def fail(number: int) -> None:
        raise stopped

    monkeypatch.setattr(module.os, "fsync", fail)
    with pytest.raises(UserError if isinstance(stopped, OSError) else KeyboardInterrupt) as caught:
        write_text(path, "new")
    if isinstance(stopped, OSError):
        assert str(caught.value) == f"{path} cannot be written: No space left on device"
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.json"]


def stop_in_the_midst(folder: Path, stopped: BaseException) -> None:
    with replacing_folder(folder) as draft:
        assert not names(draft), "what a killed process left is gone"
        (draft / "x").touch()
        raise stopped


def test_a_folder_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "a.tmp").mkdir()
    (tmp_path / "a.tmp" / "half").touch()
    for stopped, told in ((OSError(28, "No space left on device"), UserError), (KeyboardInterrupt(), KeyboardInterrupt)):
        with pytest.raises(told):
            stop_in_the_midst(tmp_path / "a", stopped)
        assert names(tmp_path) == []
    with replacing_folder(tmp_path / "a") as draft:
        (draft / "x").touch()
    assert names(tmp_path) == ["a"]
    assert names(tmp_path / "a") == ["x"]


def test_only_a_file_is_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "device").symlink_to("/dev/null")
    for name in ("pipe", "folder", "device"):
        with pytest.raises(UserError, match="cannot be written: it is not a regular file"):
            write_text(tmp_path / name, "x")
    assert names(tmp_path) == ["device", "folder", "pipe"]


def test_half_a_character_and_impossible_places(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a lone surrogate"):
        write_text(tmp_path / "a", "\ud83d")
    with pytest.raises(UserError, match="cannot be written"):
        write_text(tmp_path / "a\0b", "x")
    with pytest.raises(UserError, match="File name too long"):
        write_text(tmp_path / ("n" * 300), "x")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        write_text(tmp_path / "file" / "a", "x")
    assert names(tmp_path) == ["file"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner),
)


@given(VALUES, st.integers(1, 3))
def test_json_is_pythons_own_with_an_indent_and_nothing_that_steers_a_terminal(data: object, indent: int) -> None:
    text = json.dumps(data, indent=indent, ensure_ascii=False)
    lines = ("".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in line) for line in text.split("\n"))
    assert module.json_text(data, indent) == "".join(line + "\n" for line in lines)


def test_json_has_no_number_that_is_none() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        module.json_text({"a": [1.0, float("nan")]})
