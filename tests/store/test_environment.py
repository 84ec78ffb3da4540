"""What a manifest records of the machine: enough to explain a difference, and nothing that says whose it is."""

from __future__ import annotations

import getpass
import importlib.metadata
import json
import platform
import subprocess

import pytest

from tulu_eval.store import environment
from tulu_eval.store.manifest import command_line


def test_versions_are_those_that_are_installed() -> None:
    found = environment.packages()
    assert list(found) == [name for name in environment.PACKAGES if name in found], "always in one order"
    assert found["numpy"] == importlib.metadata.version("numpy")


def test_no_host_no_user_no_path() -> None:
    found = json.dumps(environment.machine())
    assert set(environment.machine()) == {"cpu", "cores", "memory_gib", "system", "python"}
    assert platform.node() not in found.replace(platform.system(), "")
    assert f'"{getpass.getuser()}"' not in found
    assert "/home" not in found


def test_the_processor_comes_last() -> None:
    assert environment.devices()[-1].startswith(f"cpu {environment.machine()['cpu']}, ")


@pytest.mark.parametrize(
    "error",
    [FileNotFoundError("git"), subprocess.TimeoutExpired("git", 5), PermissionError("git")],
    ids=lambda one: type(one).__name__,
)
def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_words: object, **_how: object) -> None:
        raise error

    monkeypatch.setattr(subprocess, "run", fail)
    assert environment.commit() == ""


def test_outside_a_checkout_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.CompletedProcess(["git"], 128, "", "fatal: not a git repository")
    monkeypatch.setattr(subprocess, "run", lambda *_words, **_how: done)
    assert environment.commit() == ""


@pytest.mark.parametrize(
    ("word", "kept"),
    [
        ("/home/me/test.jsonl", "test.jsonl"),
        ("~/test.jsonl", "test.jsonl"),
        ("bbh=/home/me/BIG-Bench-Hard", "bbh=BIG-Bench-Hard"),
        ("--data=/home/me/test.jsonl", "--data=test.jsonl"),
        ("../data/test.jsonl", "../data/test.jsonl"),
        ("allenai/tulu-2-dpo-7b", "allenai/tulu-2-dpo-7b"),
        ("http://localhost:8000/v1", "http://localhost:8000/v1"),
        ("", ""),
    ],
)
def test_no_folder_of_the_machine_is_in_the_kept_command(monkeypatch: pytest.MonkeyPatch, word: str, kept: str) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/bin/tulu-eval", "run", word])
    assert command_line() == ("tulu-eval", "run", kept)
