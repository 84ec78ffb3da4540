"""What a program may use, how it may end, and what a user decides about running it."""

from __future__ import annotations

import dataclasses
from typing import Literal

Ending = Literal["passed", "failed", "timed_out", "memory", "killed"]
"""How a program ended. ``passed``: it ran to its end without an exception. ``failed``: it raised, did not compile, or exited
before its end. ``timed_out``: it was stopped at a limit of time. ``memory``: it raised ``MemoryError``. ``killed``: a signal
ended it, such as that of a crash in C."""

MIB = 1 << 20

PATIENCE = 20
"""Seconds of a clock per CPU second, because the machine may be busy."""


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What one program may use; all limits together hold it to ``processes * memory + scratch`` bytes.

    The kernel's own memory for a program comes on top, and nothing counts it: buffers of pipes and sockets, 64 descriptors per
    process; the names of empty files, of which one process makes 190,000 in 2.5 s. A user's program may start others only with
    Linux 5.14 or newer, which counts the processes of each user namespace apart.

    Attributes:
        seconds: CPU seconds of each process. On a free core they are seconds of a clock; on a busy machine a program is given
            as much work as on a free one. A program that waits ends after :data:`PATIENCE` times as many seconds of a clock.
        memory: Bytes of address space of each process. The kernel refuses what exceeds it, so Python raises ``MemoryError``.
        processes: Processes and threads at one time, the first included.
        scratch: Bytes in the program's own folder, which is in memory.
    """

    seconds: int = 3
    memory: int = 512 * MIB
    processes: int = 4
    scratch: int = 16 * MIB


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ended.

    Attributes:
        why: One line about an ending that is not ``passed``; else empty. It may hold the program's own words.
        seconds: Wall-clock seconds from the program's first line to its end.
    """

    ending: Ending
    why: str
    seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class Execution:
    """What a user decides about running programs.

    Attributes:
        unsafe: Whether programs run without a sandbox, with the rights of the user (``--unsafe-execution``).
        image: Image whose containers programs run in, by podman or docker (``--sandbox-image``); empty for bubblewrap.
        workers: Number of programs at one time; 0 for one per core.
    """

    unsafe: bool = False
    image: str = ""
    workers: int = 0
