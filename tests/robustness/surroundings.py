"""What can be odd around a command: its variables, its streams, its folder, the disk."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True)
class Around:
    """Something odd around a command.

    Attributes:
        name: What it is.
        variables: Of its environment; None takes one out. ``{place}`` is a folder of the case's own.
        shell: What a shell does before it, or how it redirects; ``"$@"`` is the command.
        codes: The exit codes that it may have.
        same: Whether it must print and end as it does without.
        unwritten: Whether nothing that it prints can be written, so that it must not end as if it had been.
    """

    name: str
    variables: dict[str, str | None] = dataclasses.field(default_factory=dict)
    shell: str = ""
    codes: tuple[int, ...] = (0, 1, 2)
    same: bool = True
    unwritten: bool = False


def _run(redirection: str) -> str:
    return f'exec "$@" {redirection}'


VARIABLES = (
    Around("no HOME", {"HOME": None, "XDG_CACHE_HOME": None}),
    Around("HOME is empty", {"HOME": "", "XDG_CACHE_HOME": None}),
    Around("HOME is a file", {"HOME": "{place}/file", "XDG_CACHE_HOME": None}),
    Around("HOME is missing", {"HOME": "{place}/missing/deep", "XDG_CACHE_HOME": None}),
    Around("HOME cannot be written", {"HOME": "/proc", "XDG_CACHE_HOME": None}),
    Around("HOME is a device", {"HOME": "/dev/null", "XDG_CACHE_HOME": None}),
    Around("the cache is a file", {"XDG_CACHE_HOME": "{place}/file"}),
    Around("the cache is full", {"XDG_CACHE_HOME": "{full}"}),
    Around("the cache is relative", {"XDG_CACHE_HOME": "cache"}),
    Around("the cache cannot be written", {"XDG_CACHE_HOME": "/proc/1"}),
    Around("the cache has a long name", {"XDG_CACHE_HOME": "{place}/" + "x" * 300}),
    Around("the cache is not UTF-8", {"XDG_CACHE_HOME": "{place}/" + os.fsdecode(b"\xff\xfe")}),
    Around("the cache's folder is a file", {"XDG_CACHE_HOME": "{place}/spoilt"}),
    Around("LANG=C", {"LANG": "C", "LC_ALL": "C"}),
    Around("LC_ALL=POSIX", {"LC_ALL": "POSIX"}),
    Around("LC_ALL=tr_TR.UTF-8", {"LC_ALL": "tr_TR.UTF-8"}),
    Around("LC_ALL=de_DE.ISO-8859-1", {"LC_ALL": "de_DE.ISO-8859-1"}),
    Around("LC_ALL is nonsense", {"LC_ALL": "\x1b[31m"}),
    Around("no locale, no UTF-8 mode", {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, same=False),
    Around("output in ASCII", {"PYTHONIOENCODING": "ascii"}, same=False),
    Around("output in Latin-1", {"PYTHONIOENCODING": "latin-1"}, same=False),
    Around("output in UTF-16", {"PYTHONIOENCODING": "utf-16"}, same=False),
    Around("strict output", {"PYTHONIOENCODING": "utf-8:strict"}),
    *(Around(f"COLUMNS={n}", {"COLUMNS": n}, same=False) for n in ("0", "1", "-1", "9" * 20, "x", "")),
    *(Around(f"TERM={name or 'empty'}", {"TERM": name}) for name in ("dumb", "", "no-such-terminal")),
    *(Around(f"TZ={zone or 'empty'}", {"TZ": zone}) for zone in ("Pacific/Kiritimati", "", "nonsense", "UTC+25", ":/dev/zero")),
    Around("TMPDIR is missing", {"TMPDIR": "{place}/missing"}),
    Around("TMPDIR is a file", {"TMPDIR": "{place}/file"}),
    Around("TMPDIR is full", {"TMPDIR": "{full}"}),
    Around("no PATH", {"PATH": None}),
    Around("PATH is empty", {"PATH": ""}),
    Around("NO_COLOR", {"NO_COLOR": "1", "FORCE_COLOR": "1"}),
    Around("no variables", dict.fromkeys(("HOME", "PATH", "LANG", "TERM", "USER", "LOGNAME", "SHELL", "TMPDIR"))),
    Around("optimised", {"PYTHONOPTIMIZE": "2"}),
    Around("warnings are errors", {"PYTHONWARNINGS": "error::UserWarning"}),
    Around("odd numbers of threads", {"OMP_NUM_THREADS": "x", "WORLD_SIZE": "", "RANK": ""}),
    Around("a proxy that is none", {"HTTP_PROXY": "::", "HTTPS_PROXY": "\x1b", "ALL_PROXY": "x"}),
    Around("an odd address of the hub", {"HF_ENDPOINT": "nonsense", "HF_HUB_OFFLINE": "maybe"}, same=False),
    Around("the hub's folder is a file", {"HF_HOME": "{place}/file"}),
)
STREAMS = (
    Around("stdin is closed", shell=_run("<&-")),
    Around("stdout is closed", shell=_run(">&-"), same=False),
    Around("stderr is closed", shell=_run("2>&-"), same=False),
    Around("stdin and stdout are closed", shell=_run("<&- >&-"), same=False),
    Around("stdout and stderr are closed", shell=_run(">&- 2>&-"), same=False),
    Around("all streams are closed", shell=_run("<&- >&- 2>&-"), same=False),
    Around("stdout is a full device", shell=_run(">/dev/full"), same=False, unwritten=True),
    Around("stderr is a full device", shell=_run("2>/dev/full"), same=False),
    Around("both are a full device", shell=_run(">/dev/full 2>&1"), same=False, unwritten=True, codes=(0, 1, 2)),
    Around("stdout is on a full disk", shell=_run('>"$FULL/out"'), same=False, unwritten=True),
    Around("stdout can only be read", shell=_run("1</dev/null"), same=False, unwritten=True),
    Around("the reader has gone", shell='"$@" | true', same=False),
    Around("the working folder is gone", shell='mkdir "$GONE" && cd "$GONE" && rmdir "$GONE" && exec "$@"'),
    Around("the working folder cannot be written", shell='cd /proc && exec "$@"'),
    Around("umask 777", shell='umask 777; exec "$@"'),
    Around("few open files", shell='ulimit -n 24; exec "$@"', same=False),
    Around("no file may grow", shell='ulimit -f 0; exec "$@"', same=False),
    Around("little stack", shell='ulimit -s 256; exec "$@"', same=False),
    Around("the clock of processors is short", shell='ulimit -t 60; exec "$@"'),
)
ALL = (*VARIABLES, *STREAMS)


def both(one: Around, other: Around) -> Around:
    """Returns two at once; the second one's shell."""
    return dataclasses.replace(
        other, name=f"{one.name}; {other.name}", variables={**one.variables, **other.variables}, same=one.same and other.same
    )


def pairs() -> Iterator[Around]:
    """Yields each of the variables with each of the streams."""
    yield from (both(one, other) for one in VARIABLES for other in STREAMS)


@contextlib.contextmanager
def full_disk(folder: Path) -> Iterator[str]:
    """Yields a folder on a full disk of 64 KiB, or the reason why it cannot be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        done: Any = subprocess.run(mount, capture_output=True, check=False)
    except OSError as error:
        done = None
        why = str(error)
    if done is None or done.returncode:
        yield f"skipped: no small disk can be mounted here ({why if done is None else done.stderr.decode().strip()[:80]})"
        return
    try:
        with contextlib.suppress(OSError), (folder / "filling").open("wb") as file:
            for _ in range(128):
                file.write(bytes(1 << 10))
                file.flush()
        (folder / "out").touch()
        yield str(folder)
    finally:
        subprocess.run(["umount", str(folder)], check=False)
