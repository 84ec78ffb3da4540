"""Starts programs for tests as a shell does, and kills them at the end of the test."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import psutil


class Programs:
    """Use it as a context manager, or as the fixture ``programs``: its end kills the programs that still run.

    A child is a program, never a fork: a fork shares locks with this process (tqdm's is one of ``multiprocessing``), and one
    that is killed while it holds a lock leaves it locked for everybody. ``test_habits.py`` holds this.
    """

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Programs:
        return self

    def __exit__(self, *error: object) -> None:
        # One at a time off the list: where the time limit falls in here, the next call goes on with the others.
        while self._started:
            with self._started[-1] as child:  # closes the pipes and waits
                for process in _tree(child):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()
            self._started.pop()

    def start(self, *words: object, **how: Any) -> subprocess.Popen[str]:
        """Starts a program, with text pipes as its output and its errors unless ``how``, as for ``Popen``, says otherwise."""
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with _sigint_is_not_ignored():
            child = subprocess.Popen([str(word) for word in words], **(pipes | how))
        self._started.append(child)
        return child


def _tree(child: subprocess.Popen[str]) -> list[psutil.Process]:
    """Returns a running child and all its descendants; an empty list if it has ended."""
    if child.poll() is not None:
        return []
    process = psutil.Process(child.pid)
    return [process, *process.children(recursive=True)]


@contextlib.contextmanager
def _sigint_is_not_ignored() -> Iterator[None]:
    """Starts programs meanwhile with the default action of SIGINT, as a shell's foreground does.

    A shell without job control starts ``make test &`` with SIGINT ignored, which exec hands down; it resets a handler (POSIX,
    exec: "signals set to be caught ... shall be set to the default action").
    """
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
