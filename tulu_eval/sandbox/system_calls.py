"""The system calls that a sandboxed program may not make, as a seccomp filter in the kernel's classic BPF.

Two kinds are denied: those that make memory which no limit of a process counts (shared memory, message queues), and those that
no program of a benchmark needs and that widen what it can reach of the kernel or of the sandbox's own processes. Numbers: the
kernel's ``arch/x86/entry/syscalls/syscall_64.tbl`` and ``include/uapi/asm-generic/unistd.h``; structures: ``seccomp(2)``.
"""

from __future__ import annotations

import platform
import struct
from typing import NamedTuple

from tulu_eval.errors import PreflightError


class Machine(NamedTuple):
    """A machine's system calls.

    Attributes:
        audit: Number by which the kernel names it (``linux/audit.h``).
        clone: Number of ``clone``, which is denied only where it makes namespaces.
        denied: Numbers by name.
    """

    audit: int
    clone: int
    denied: dict[str, int]


_NEWER = {
    "pidfd_getfd": 438, "memfd_secret": 447, "io_uring_setup": 425, "open_tree": 428, "move_mount": 429, "fsopen": 430,
    "fsconfig": 431, "fsmount": 432, "mount_setattr": 442,
}  # fmt: skip
"""Numbers from 424 on are the same on all machines."""

MACHINES = {
    "x86_64": Machine(
        0xC000003E,
        56,
        _NEWER
        | {
            "shmget": 29, "msgget": 68, "mq_open": 240, "memfd_create": 319, "semget": 64,
            "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312,
            "unshare": 272, "setns": 308, "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161,
            "bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "add_key": 248, "request_key": 249, "keyctl": 250,
        },
    ),
    "aarch64": Machine(
        0xC00000B7,
        220,
        _NEWER
        | {
            "shmget": 194, "msgget": 186, "mq_open": 180, "memfd_create": 279, "semget": 190,
            "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272,
            "unshare": 97, "setns": 268, "mount": 40, "umount2": 39, "pivot_root": 41, "chroot": 51,
            "bpf": 280, "perf_event_open": 241, "userfaultfd": 282, "add_key": 217, "request_key": 218, "keyctl": 219,
        },
    ),
}  # fmt: skip

CLONE3 = 435
"""Its flags are in memory, where a filter cannot look; told that it does not exist, the C library takes ``clone``."""

X32 = 0x40000000
"""Bit of the numbers of x86_64's second table."""

NAMESPACES = 0x7E020000
"""All ``CLONE_NEW...`` flags of ``clone`` (``linux/sched.h``)."""

LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16
ALLOW, DENY, ABSENT = 0x7FFF0000, 0x00050000 | 1, 0x00050000 | 38  # EPERM, ENOSYS


def filter_program(machine: str = "") -> bytes:
    """Returns ``bwrap --seccomp``'s filter for an architecture, empty for this one; raises PreflightError if it is unknown."""
    name = machine or platform.machine()
    if name not in MACHINES:
        raise PreflightError(f"no sandbox on {name}: its system calls are not known; --unsafe-execution runs without one")
    known = MACHINES[name]
    checks = [(EQUAL, number, DENY) for number in known.denied.values()]
    checks += [(EQUAL, CLONE3, ABSENT), (AT_LEAST, X32, DENY)]
    lines = [(LOAD, 0, 0, ARCHITECTURE), (EQUAL, 1, 0, known.audit), (RETURN, 0, 0, DENY), (LOAD, 0, 0, NUMBER)]
    for operation, number, answer in checks:
        lines += [(operation, 0, 1, number), (RETURN, 0, 0, answer)]
    lines += [
        (EQUAL, 0, 3, known.clone),
        (LOAD, 0, 0, FIRST_ARGUMENT),
        (ANY_BIT, 0, 1, NAMESPACES),
        (RETURN, 0, 0, DENY),
        (RETURN, 0, 0, ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *line) for line in lines)
