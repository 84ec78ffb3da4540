"""Runs a command in this process or as a program, and checks its ending."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

from click.testing import CliRunner
from programs import Programs

import tulu_eval
from tulu_eval.cli import cli

SECONDS = 60
"""Seconds after which a verb in this process hangs; on an unharmed run and an idle machine each takes less than 2."""

COMMAND_SECONDS = 90
"""The same for a program, which also imports its packages, on a busy machine."""

CODES = (0, 1, 2)
"""Exit codes that a command may have; also 130 and 143 after a signal, and 141 after a closed reader."""

_ID = re.compile(r"[\d,]+ bytes|\bid [0-9a-f]{64}|[0-9a-f]{64}|[\d.]+ MB")
"""Sizes and ids of what was written: they follow from the bytes of files, which differ where the same JSON is written anew."""


@dataclasses.dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended.

    Attributes:
        code: Its exit code, as a shell gives it: 128 and the number where a signal ended it.
        out: What it printed, without sizes and ids.
        err: What it said on stderr.
        failure: What is wrong however the inputs were: a traceback or a hang. Empty if nothing.
    """

    code: int
    out: str
    err: str
    failure: str = ""


class HangError(BaseException):
    """A verb took too long. It is no ``Exception``, so that no handler of the package catches it."""


def in_process(words: list[str]) -> Ended:
    """Runs a command in this process, within :data:`SECONDS`."""

    def late(_number: int, frame: FrameType | None) -> None:
        raise HangError("".join(traceback.format_stack(frame)[-2:]).replace("\n", " "))

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        result = CliRunner().invoke(cli, words)
    except HangError as error:
        return Ended(-1, "", "", f"hang: {str(error)[-300:]}")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    failure = ""
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        failure = _traceback(result.exception)
    return Ended(result.exit_code, _ID.sub("", result.stdout), result.stderr, failure)


def _traceback(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = (
        f"{one.filename.rpartition('tulu_eval/')[2]}:{one.lineno}" for one in reversed(frames) if "tulu_eval/" in one.filename
    )
    return f"traceback: {type(error).__name__} at {next(ours, frames[-1].name)}: {str(error)[:120]}"


def environment(cache: Path, **changes: str | None) -> dict[str, str]:
    """Returns a program's environment: caches of its own, no way to the hub, no keys. A change to None takes a name out."""
    made = {name: value for name, value in os.environ.items() if not name.endswith("_KEY")}
    made |= {"PYTHONPATH": str(Path(tulu_eval.__file__).parents[1]), "XDG_CACHE_HOME": str(cache), "HF_HOME": str(cache / "hf")}
    made |= {"HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    for name, value in changes.items():
        if value is None:
            made.pop(name, None)
        else:
            made[name] = value
    return made


def as_command(words: list[str], env: dict[str, str], folder: Path, shell: str = "", **how: Any) -> Ended:
    """Runs ``python -m tulu_eval`` as a program, within :data:`COMMAND_SECONDS`.

    Args:
        words: What stands behind it.
        env: Its environment.
        folder: Where it runs.
        shell: What a shell runs instead; ``"$@"`` in it is the command.
        how: As for ``Popen``.
    """
    command = [sys.executable, "-m", "tulu_eval", *words]
    if shell:
        command = ["sh", "-c", shell, "sh", *command]
    with Programs() as programs:
        child = programs.start(*command, env=env, cwd=folder, errors="surrogateescape", **({"stdin": subprocess.DEVNULL} | how))
        try:
            out, err = child.communicate(timeout=COMMAND_SECONDS)
        except subprocess.TimeoutExpired:
            return Ended(-1, "", "", f"hang: more than {COMMAND_SECONDS} s")
    out, err = out or "", err or ""
    failure = ""
    if "Traceback (most recent call last)" in err or "Exception ignored" in err:
        lines = [line.strip() for line in err.splitlines() if line.strip()]
        ours = [line for line in lines if "tulu_eval/" in line and line.startswith("File ")]
        failure = f"traceback: {lines[-1][:150]} {ours[-1][-80:] if ours else ''}"
    return Ended(child.returncode if child.returncode >= 0 else 128 - child.returncode, _ID.sub("", out), err, failure)


def wrong(found: Ended, lines: int = 1, codes: tuple[int, ...] = CODES) -> str:
    """Returns what is wrong with an ending for any input, as one line ``kind: text``; empty if nothing is.

    Args:
        found: The ending.
        lines: As many it may say on stderr.
        codes: The exit codes that it may have.
    """
    if found.failure:
        return found.failure
    if found.code not in codes:
        return f"exit code: {found.code}, {found.err[-200:]!r}"
    if len(found.err.splitlines()) > lines:
        return f"lines: {len(found.err.splitlines())} on stderr: {found.err[:300]!r}"
    if found.code == 2 and not found.err:
        return "lines: exit code 2 and no word why"
    steering = [one for one in found.out + found.err if not one.isprintable() and one != "\n"]
    return f"terminal: {steering[0]!r} is printed" if steering else ""
