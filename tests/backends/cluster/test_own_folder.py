"""A killed driver's folder goes with the next start, and nothing else does."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tulu_eval.backends.cluster.own_folder import LOCK, OwnFolder

PROGRAM = """
import time
from tulu_eval.backends.cluster.own_folder import OwnFolder
folder = OwnFolder()
print(folder.path, flush=True)
time.sleep(600)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_a_killed_drivers_folder_goes_with_the_next_start(temporary: Path, programs: Any) -> None:
    driver = programs.start(sys.executable, "-c", PROGRAM)
    left = Path(driver.stdout.readline().strip())
    (left / "ray" / "session").mkdir(parents=True)
    (left / "ray" / "session" / "log").write_text("said")
    first = OwnFolder()
    assert {*temporary.iterdir()} == {left, first.path}  # the driver lives
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    second = OwnFolder()
    assert {*temporary.iterdir()} == {first.path, second.path}
    for own in (first, second):
        own.remove()
    assert not [*temporary.iterdir()]


def test_only_what_is_provably_a_dead_drivers_is_removed(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = [temporary / name for name in ("tulu-eval-ray-without", "tulu-eval-nodes-1", "tulu-eval-ray-linked", "elsewhere")]
    for folder in (others[0], others[1], others[3]):
        folder.mkdir()
    others[2].symlink_to(others[3])
    for folder in (others[1], others[3]):
        (folder / LOCK).touch()
    (temporary / "tulu-eval-ray-file").touch()
    (others[0] / LOCK).symlink_to(others[3] / LOCK)
    before = {*temporary.rglob("*")}
    OwnFolder().remove()
    assert {*temporary.rglob("*")} == before
    dead = temporary / "tulu-eval-ray-dead"
    dead.mkdir()
    (dead / LOCK).touch()
    user = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: user + 1)
    OwnFolder().remove()
    assert dead.exists()
    monkeypatch.setattr(os, "getuid", lambda: user)
    OwnFolder().remove()
    assert {*temporary.rglob("*")} == before


def test_nobody_else_reads_it(temporary: Path) -> None:
    own = OwnFolder()
    assert own.path.stat().st_mode & 0o077 == 0
    assert own.of_ray.parent == own.path
    own.remove()
