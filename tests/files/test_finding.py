"""Folders that others filled are looked through without following them anywhere."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tulu_eval import files
from tulu_eval.files import finding
from tulu_eval.findings.table import collect
from tulu_eval.registry import load_suite
from tulu_eval.reports import curves


def test_files_links_and_folders_of_a_name_are_found_in_order(tmp_path: Path) -> None:
    (tmp_path / "b" / "c").mkdir(parents=True)
    (tmp_path / "b" / "c" / "x").touch()
    (tmp_path / "b" / "x").symlink_to("nowhere")
    (tmp_path / "x").mkdir()
    found, problems = files.find(tmp_path, ("x", "y"))
    assert found == {"x": [tmp_path / "b" / "c" / "x", tmp_path / "b" / "x", tmp_path / "x"], "y": []}
    assert problems == []


def test_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").touch()
    (tmp_path / "a" / "round").symlink_to(tmp_path)
    (tmp_path / "out").symlink_to("/")
    assert files.find(tmp_path, ("x",)) == ({"x": [tmp_path / "a" / "x"]}, [])


def deep(folder: Path, levels: int) -> None:
    """Makes folders in each other, more than a path may have letters."""
    place = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=place)
        inner = os.open("d", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = inner
    os.close(place)


def test_a_tree_without_an_end_is_told_in_one_line_by_every_reader(tmp_path: Path) -> None:
    """os.walk and rglob end in a RecursionError (Python 3.11)."""
    deep(tmp_path, 3000)
    try:
        problems = files.find(tmp_path, ("x",))[1]
        assert len(problems) == 1
        assert problems[0].endswith("/d: is not looked into, 32 folders down")
        assert curves.find(tmp_path) == ([], problems)
        assert list(collect(load_suite(), tmp_path).problems) == problems
    finally:  # pytest would end in a RecursionError too
        subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)


def test_a_wide_tree_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "FOLDERS", 5)
    for number in range(9):
        (tmp_path / str(number)).mkdir()
    assert files.find(tmp_path, ("x",))[1] == [f"{tmp_path}: has more than 5 folders; the rest was not looked into"]


def test_a_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "a\x1b").touch()
    assert files.find(tmp_path / "a\x1b", ("x",))[1] == [f"{tmp_path}/a?: cannot be read: Not a directory"]
