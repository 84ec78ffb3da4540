"""Runs programs at one time on all cores, and says how each ended.

Each program has a sandbox and a Python of its own, so no program can change another's end. What ends it is its own: a program
passes if the driver, in the same process, got to the program's last line and then wrote 32 characters, drawn for it alone, into
a pipe. So nothing passes by an exit status, by output, by ``atexit``, by closing or guessing the pipe, by killing its parent,
or in a process that it forked. Its check runs in its own interpreter, though, as in every harness of this kind: a function
whose results are equal to everything passes an ``assert``, and a program that looks through the driver's frames finds the
characters. Neither happens by accident; look at the programs of a model that was trained against such a check.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO

from tulu_eval.errors import PreflightError, printable
from tulu_eval.sandbox.containers import Container, Containers
from tulu_eval.sandbox.driver import READY
from tulu_eval.sandbox.launching import Launcher, Started, launcher
from tulu_eval.sandbox.limits import PATIENCE, Execution, Limits, Outcome

START_SECONDS = 60
"""Longest start of a sandbox; it takes 0.03 s, but the machine may be busy."""

END_SECONDS = 10.0
"""Longest wait for the last process of a sandbox that was killed."""

CHUNK = 4096
"""Bytes of a report, which is one write; a pipe keeps a write of so many bytes together (``pipe(7)``)."""


def run_programs(
    programs: Iterable[str],
    limits: Limits = Limits(),  # noqa: B008 - frozen
    execution: Execution = Execution(),  # noqa: B008 - frozen
    packages: Sequence[str] = (),
) -> Iterator[Outcome]:
    """Yields how each program ended, in their order.

    Each is a whole program, run as ``exec`` runs it in an empty namespace, with the standard library and the installed packages
    that ``packages`` names.

    Raises:
        PreflightError: If there is no sandbox here; nothing has run then.
    """
    workers = execution.workers or len(os.sched_getaffinity(0))
    launch = launcher(execution, limits, packages)
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(lambda program: _run(launch, program, limits), programs)


def check_sandbox(execution: Execution, packages: Sequence[str] = ()) -> None:
    """Raises PreflightError, with the remedy, if programs cannot run here."""
    imports = "".join(f"import {name}\n" for name in packages)
    for outcome in run_programs([imports], Limits(seconds=START_SECONDS), execution, packages):
        if outcome.ending != "passed":
            raise PreflightError(f"a program that does nothing but import its packages did not run: {outcome.why}")


def _run(launch: Launcher | Containers, program: str, limits: Limits) -> Outcome:
    secret = secrets.token_hex(16).encode()
    with contextlib.ExitStack() as opened:
        given = opened.enter_context(tempfile.TemporaryFile())
        given.write(secret + program.encode("utf-8", "surrogatepass"))
        given.seek(0)
        folder = (
            ""
            if not isinstance(launch, Launcher) or launch.opening
            else opened.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        )
        started = launch.start(given, folder)
        opened.callback(_end, started)
        return _follow(started.process, secret, limits, launch.needs)


def _follow(process: subprocess.Popen[bytes], secret: bytes, limits: Limits, needs: str) -> Outcome:
    """Returns how a program ended, as soon as it is known; raises PreflightError if the program was not started."""
    pipe = _pipe(process)
    said = b""
    started = time.monotonic()
    while READY not in said:
        more = _read(pipe, started + START_SECONDS)
        if not more:
            why = said.decode("utf-8", "replace").strip() or f"nothing happened in {START_SECONDS} s"
            raise PreflightError(f"no sandbox can be made here ({why}): {needs}")
        said += more
    began = time.monotonic()
    deadline = began + PATIENCE * limits.seconds
    report = said.partition(READY)[2] or _read(pipe, deadline)
    seconds = time.monotonic() - began
    if report is not None and report.startswith(secret):  # a container's client may say more
        return Outcome("passed", "", seconds)
    if report is None:
        return _late(limits)
    if not report:
        return _silent(process, deadline, seconds, limits)
    if report == b"memory":
        return Outcome("memory", "MemoryError", seconds)
    words = report.decode("utf-8", "replace").partition("failed ")[2] or "wrote something else than the driver does"
    return Outcome("failed", printable(" ".join(words.split())), seconds)


def _read(pipe: IO[bytes], deadline: float) -> bytes | None:
    """Returns what is in a pipe, empty at its end; ``None`` if nothing comes until the deadline."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    left = max(0.0, deadline - time.monotonic())
    return os.read(pipe.fileno(), CHUNK) if poll.poll(1000 * left) else None


def _late(limits: Limits) -> Outcome:
    seconds = PATIENCE * limits.seconds
    return Outcome("timed_out", f"did not end in {seconds} s", seconds)


def _silent(process: subprocess.Popen[bytes], deadline: float, seconds: float, limits: Limits) -> Outcome:
    """Returns how a process ended that reported nothing; it may have closed the pipe and go on."""
    try:
        code = process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return _late(limits)
    number = -code if code < 0 else code - 128  # bubblewrap says a signal as a shell does
    if number == signal.SIGXCPU:
        return Outcome("timed_out", f"did not end in {limits.seconds} s of CPU time", seconds)
    if number in set(signal.Signals):
        return Outcome("killed", f"ended by {signal.Signals(number).name}", seconds)
    return Outcome("failed", f"exited with {code} before its end", seconds)


def _end(started: Started | Container) -> None:
    """Kills what is left of a program, and waits until all its processes have let go of the pipe."""
    started.end()
    pipe = _pipe(started.process)
    deadline = time.monotonic() + END_SECONDS
    while _read(pipe, deadline):
        pass
    pipe.close()


def _pipe(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdout is not None  # noqa: S101 - it was asked for
    return process.stdout
