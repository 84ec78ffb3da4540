"""Runs programs in the sandbox as whoever runs the tests and, where that is root, as an ordinary user too."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

import tulu_eval
from tulu_eval.errors import PreflightError
from tulu_eval.sandbox import Execution, Limits, Outcome, check_sandbox, run_programs

Runner = Callable[..., list[Outcome]]

USER = 65534
LIMITS = Limits()
SYSTEM_PYTHON = "/usr/bin/python3"

ASKED = (
    "import dataclasses, json, sys; sys.path.insert(0, sys.argv[1]); "
    "from tulu_eval.sandbox import Limits, run_programs; order = json.load(sys.stdin); "
    "print(json.dumps([dataclasses.asdict(one) for one in run_programs(order['programs'], Limits(**order['limits']))]))"
)


@functools.cache
def absent() -> str:
    """Why there is no sandbox here; empty if there is one."""
    try:
        check_sandbox(Execution())
    except PreflightError as error:
        return str(error)
    return ""


@pytest.fixture(scope="session")
def sandbox() -> None:
    """Skips where no sandbox can be made, and says why."""
    if absent():
        pytest.skip(absent())


@functools.cache
def package_for_everybody() -> str:
    """A copy of what the sandbox imports of the package, where another user may read it."""
    folder = Path(tempfile.mkdtemp(prefix="tulu-eval-sandbox-"))
    source = Path(tulu_eval.__file__).parent
    shutil.copytree(source / "sandbox", folder / "tulu_eval" / "sandbox", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(source / "errors.py", folder / "tulu_eval" / "errors.py")
    folder.chmod(0o755)
    return str(folder)


def as_user(programs: Sequence[str], limits: Limits) -> list[Outcome]:
    """What :func:`run_programs` returns to an ordinary user, with the system's Python."""
    drop = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--")
    order = json.dumps({"programs": list(programs), "limits": {name: getattr(limits, name) for name in limits.__slots__}})
    words = [*drop, SYSTEM_PYTHON, "-c", ASKED, package_for_everybody()]
    done = subprocess.run(words, input=order, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    return [Outcome(**one) for one in json.loads(done.stdout)]


@pytest.fixture(scope="session", autouse=True)
def copies() -> Iterator[None]:
    """Removes the copy of the package at the end."""
    yield
    if package_for_everybody.cache_info().currsize:
        shutil.rmtree(package_for_everybody())


@pytest.fixture(params=["here", "user"])
def run(request: pytest.FixtureRequest, sandbox: None) -> Runner:
    """Runs programs as whoever runs the tests, then as an ordinary user."""
    if request.param == "here":
        return lambda programs, limits=LIMITS: list(run_programs(programs, limits))
    if os.geteuid() != 0:
        pytest.skip("the tests do not run as root, so both are one user")
    probe = "import sys; sys.exit(sys.version_info < (3, 11))"
    if not os.path.exists(SYSTEM_PYTHON) or subprocess.run([SYSTEM_PYTHON, "-c", probe], check=False).returncode:
        pytest.skip(f"{SYSTEM_PYTHON} is not Python 3.11 or newer, and another user may not reach {sys.base_prefix}")
    return lambda programs, limits=LIMITS: as_user(programs, limits)


class Census:
    """What was seen of the processes in sandboxes: the most at one time, and the most memory that they held together."""

    def __init__(self) -> None:
        self.most = self.memory = 0
        self._over = threading.Event()
        self._here = os.readlink("/proc/self/ns/pid")

    def inside(self) -> list[psutil.Process]:
        """The processes of this one's that are in another process namespace."""
        found = []
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{process.pid}/ns/pid") != self._here:
                    found.append(process)
        return found

    def watch(self) -> None:
        while not self._over.wait(0.01):
            seen = self.inside()
            self.most = max(self.most, len(seen))
            held = 0
            for process in seen:
                with contextlib.suppress(psutil.Error):
                    held += process.memory_info().rss
            self.memory = max(self.memory, held)

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        """Counts while programs run; afterwards none may be left."""
        thread = threading.Thread(target=self.watch)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()
        deadline = time.monotonic() + 300
        while self.inside() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert self.inside() == []


@pytest.fixture
def census() -> Any:
    return Census()
