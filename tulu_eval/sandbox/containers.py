"""Starts one process that runs programs in a container of an image, by podman or docker.

The container has no network, none of the user's files, no capabilities, and one folder to write to, in memory; the image is
read-only and has to have ``python3`` and the packages that programs import. Memory and processes are held by the container's
control group, so all of a program's processes count together. It starts in 0.4 s, bubblewrap's sandbox in 0.03.

Read in podman 4.3's and docker 27's ``run``: options of these names mean the same in both. podman ends a container by itself
if this process is killed (``--timeout``); docker does not, and leaves one whose program sleeps.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from typing import IO, NamedTuple

from tulu_eval.errors import PreflightError
from tulu_eval.sandbox.limits import PATIENCE, Limits

TOOLS = ("podman", "docker")
"""In the order in which they are looked for."""

NOBODY = "65534:65534"
SCRATCH = "/tulu-eval-scratch"
"""No image has it; podman gives a folder in memory the rights of the image's folder of this name."""

GRACE = 5.0
"""Seconds in which a container that is over goes away by itself."""

START = 60
"""Seconds that podman's own limit adds for the container's start."""


class Containers(NamedTuple):
    """How to start a container that runs one program.

    Attributes:
        tool: Path of podman or docker.
        words: The options of its ``run``, without the container's name.
        command: Image, interpreter, driver and its arguments.
    """

    tool: str
    words: tuple[str, ...]
    command: tuple[str, ...]
    needs: str = "the image has to be there (podman pull IMAGE) and to have python3, or: --unsafe-execution"

    bare: bool = False

    def start(self, given: IO[bytes], folder: str) -> Container:
        """Starts a container whose driver reads ``given``; its output and its errors are one pipe. ``folder`` is not used."""
        name = f"tulu-eval-{secrets.token_hex(8)}"
        process = subprocess.Popen(  # noqa: S603 - our own words
            (self.tool, "run", "--name", name, *self.words, *self.command),
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        return Container(self.tool, name, process)


class Container(NamedTuple):
    """A container with the client that waits for it."""

    tool: str
    name: str
    process: subprocess.Popen[bytes]

    def end(self) -> None:
        """Kills the container if it is still there, and waits for its client."""
        try:
            self.process.wait(GRACE if self.process.poll() is None else 0)
        except subprocess.TimeoutExpired:
            subprocess.run((self.tool, "kill", self.name), capture_output=True, check=False)  # noqa: S603 - our own words
            self.process.wait()


def containers(image: str, limits: Limits, driver: str) -> Containers:
    """Returns how to start containers of an image; ``driver`` is the source of the program that runs another.

    Raises:
        PreflightError: If neither podman nor docker is installed, or the image's name is an option.
    """
    found = next((path for name in TOOLS if (path := shutil.which(name))), None)
    if found is None:
        raise PreflightError(f"--sandbox-image {image} needs podman or docker, and neither is installed")
    if image.startswith("-") or not image.strip():
        raise PreflightError(f"--sandbox-image {image!r} is no name of an image")
    memory = str(limits.processes * limits.memory + limits.scratch)
    words: tuple[str, ...] = (
        "--rm", "--interactive", "--pull", "never", "--network", "none", "--read-only", "--cap-drop", "ALL", "--user", NOBODY,
        "--security-opt", "no-new-privileges", "--pids-limit", str(limits.processes + 1),  # and its first
        "--memory", memory, "--memory-swap", memory, "--ulimit", "nofile=64:64", "--ulimit", "nproc=4096:4096",
        "--tmpfs", f"{SCRATCH}:rw,size={limits.scratch},mode=1777", "--workdir", SCRATCH, "--hostname", "sandbox",
        "--env", "PYTHONHASHSEED=0", "--env", "OPENBLAS_NUM_THREADS=1", "--env", "OMP_NUM_THREADS=1",
        "--env", f"HOME={SCRATCH}", "--env", f"TMPDIR={SCRATCH}", "--entrypoint", "python3",
    )  # fmt: skip
    if os.path.basename(found) == "podman":
        words += ("--timeout", str(START + PATIENCE * limits.seconds))
    # No limit of the user's processes: it would hold those of all containers together.
    numbers = (limits.memory, 0, limits.scratch, limits.seconds)
    return Containers(found, words, (image, "-s", "-P", "-c", driver, "0", *map(str, numbers)))
