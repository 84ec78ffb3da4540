"""Starts one process that runs programs: in bubblewrap, or in a container or without a sandbox where the user said so.

In the sandbox stand the standard library of the Python that runs here, the system's shared libraries and the packages asked
for, all read-only, ``/dev/null``, ``/dev/urandom``, and one folder to write to, in memory. There is no network, no ``/proc``,
no other file and no environment of the user's. A user's sandbox has a user namespace of its own. Root's has none: root mounts
what other users may not reach, and the driver then becomes a user that nobody else is, because the kernel holds root to no
number of processes.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from tulu_eval.errors import PreflightError
from tulu_eval.sandbox.containers import Containers, containers
from tulu_eval.sandbox.limits import Execution, Limits
from tulu_eval.sandbox.system_calls import filter_program

FIRST_USER, USERS = 0x70000000, 0x10000000
"""Root's programs run as users of this range, each drawn for one program; systemd's list of ranges has it as unused."""

SCRATCH, PACKAGES = "/scratch", "/packages"

LIBRARIES = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache")
"""Where the loader finds what Python and its packages link to."""

DEVICES = ("/dev/null", "/dev/urandom")

UNSAFE = (
    "or run the programs in containers, --sandbox-image IMAGE, or without a sandbox, with all your rights, --unsafe-execution"
)

ENVIRONMENT = {"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""The order of a set is the same each time, so a program that depends on it ends in the same way; one thread is one process."""


class Launcher(NamedTuple):
    """How to start a process that runs one program.

    Attributes:
        opening: First words of the command line; empty without a sandbox.
        python: The interpreter, its flags and the driver.
        arguments: The driver's arguments behind its user.
        calls: The filter of system calls.
    """

    opening: tuple[str, ...]
    python: tuple[str, ...]
    arguments: tuple[str, ...]
    calls: bytes = b""
    needs: str = f"it takes bubblewrap 0.7 or newer and, for other users than root, user namespaces, {UNSAFE}"

    @property
    def bare(self) -> bool:
        """Whether there is no sandbox, so that a program needs a folder."""
        return not self.opening

    def start(self, given: IO[bytes], folder: str) -> Started:
        """Starts the process in a group of its own; its output and its errors are one pipe.

        The driver reads ``given``; ``folder`` is its folder if there is no sandbox.
        """
        if not self.opening:
            home = {"HOME": folder, "TMPDIR": folder}
            return Started(_popen((*self.python, "0", *self.arguments), given, (), ENVIRONMENT | home, folder))
        user = FIRST_USER + secrets.randbelow(USERS) if os.geteuid() == 0 else 0
        read, write = os.pipe()
        try:
            os.write(write, self.calls)  # fits into a pipe
            os.close(write)
            words = (*self.opening, "--seccomp", str(read), "--", *self.python, str(user), *self.arguments)
            return Started(_popen(words, given, (read,), {}, "/"))
        finally:
            os.close(read)


class Started(NamedTuple):
    """A process that leads a group of its own: bubblewrap, or the driver without a sandbox."""

    process: subprocess.Popen[bytes]

    def end(self) -> None:
        """Kills the group, and with bubblewrap all processes of its namespace."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def _popen(
    words: Sequence[str], given: IO[bytes], handles: Sequence[int], environment: dict[str, str], folder: str
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - our own words
        words,
        stdin=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=handles,
        env=environment,
        cwd=folder,
        start_new_session=True,
    )


def launcher(execution: Execution, limits: Limits, packages: Sequence[str]) -> Launcher | Containers:
    """Returns how to start programs under limits; ``packages`` names installed ones that a program may import.

    Raises:
        PreflightError: If there is no sandbox here, or a package is not installed. A container has its image's packages.
    """
    if execution.image and execution.unsafe:
        raise PreflightError("--sandbox-image and --unsafe-execution are two ways to run programs: give one")
    if execution.image:
        return containers(execution.image, limits, _driver())
    found = {name: _package(name) for name in packages}
    if execution.unsafe:
        # The kernel counts all of a user's processes together, so there is no limit for those of one program.
        return Launcher((), _python(), _arguments(limits, 0, [str(folder.parent) for folder in found.values()]))
    # In a user's namespace, bubblewrap's own first process counts too.
    processes = limits.processes + (os.geteuid() != 0)
    opening = (*_bubblewrap(), *_binds(_bound(found)), *_own(limits))
    return Launcher(opening, _python(), _arguments(limits, processes, [PACKAGES]), filter_program())


def interpreter() -> Path:
    """Returns the Python that runs here, outside of its virtual environment."""
    return Path(getattr(sys, "_base_executable", sys.executable)).resolve()


def _driver() -> str:
    return Path(__file__).with_name("driver.py").read_text(encoding="utf-8")


def _python() -> tuple[str, ...]:
    return (str(interpreter()), "-s", "-S", "-P", "-c", _driver())  # nothing from site-packages or the working folder


def _arguments(limits: Limits, processes: int, folders: Sequence[str]) -> tuple[str, ...]:
    numbers = (limits.memory, processes, limits.scratch, limits.seconds)
    return (*map(str, numbers), *folders)


def _bubblewrap() -> tuple[str, ...]:
    spaces = ("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try")
    rights = ("--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID")
    kept = rights if os.geteuid() == 0 else ("--unshare-user",)
    flags = ("--die-with-parent", "--new-session", "--clearenv", "--hostname", "sandbox")
    return (_tool("bwrap", "bubblewrap"), *spaces, *kept, *flags)


def _tool(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise PreflightError(f"programs that a model wrote run in a sandbox, which needs {name}: install {package}, {UNSAFE}")
    return found


def _own(limits: Limits) -> Iterator[str]:
    """Yields the words for a program's own folder and environment."""
    yield from ("--perms", "1777", "--size", str(limits.scratch), "--tmpfs", SCRATCH)
    yield from ("--remount-ro", "/", "--chdir", SCRATCH)
    for name, value in (ENVIRONMENT | {"HOME": SCRATCH, "TMPDIR": SCRATCH}).items():
        yield from ("--setenv", name, value)


def _bound(packages: dict[str, Path]) -> dict[str, str]:
    """Returns what is read-only in the sandbox: paths there, and here."""
    libraries = Path(os.__file__).parent.parent
    paths = [*LIBRARIES, str(libraries), str(interpreter())]
    covered = [path for path in paths if not any(Path(other) in Path(path).parents for other in paths)]
    inside = {path: path for path in dict.fromkeys(covered) if os.path.exists(path)}
    for name, folder in packages.items():
        for part in (name, f"{name}.libs"):  # the shared libraries of a wheel stand beside its package
            if (folder.parent / part).exists():
                inside[f"{PACKAGES}/{part}"] = str(folder.parent / part)
    return inside


def _binds(bound: dict[str, str]) -> Iterator[str]:
    """Yields the words that put ``bound`` into the sandbox, in folders that every user may pass through."""
    places = [*bound, *DEVICES]
    for folder in sorted({str(parent) for place in places for parent in Path(place).parents} - {"/"}):
        yield from ("--perms", "0755", "--dir", folder)
    for inside, path in bound.items():
        if os.path.islink(path):
            yield from ("--symlink", os.readlink(path), inside)
        else:
            yield from ("--ro-bind", path, inside)
    for device in DEVICES:
        yield from ("--dev-bind", device, device)


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise PreflightError(f"programs may import {name}, which is not installed: pip install {name}")
    return Path(spec.submodule_search_locations[0])
