"""The program that runs another program: started with ``python -c`` inside of the sandbox, without this package.

Standard input has 32 characters that only the parent and this program know, then the program. Standard output takes this
program's two reports: :data:`READY`, and how the other program ended. The 32 characters say that it ran to its end.

Arguments: the user to become (0 for none), bytes of address space, processes (0 for no limit), bytes of a file, CPU seconds,
folders of packages.
"""

from __future__ import annotations

import os
import resource
import sys

READY = b"\0ready\n"
SHOWN = 200


def end_as_a_second() -> None:
    """Starts this program again and ends as it does, as a shell says it: for a container's first process.

    The kernel spares the first process signals, such as that at the limit of CPU time.
    """
    second = os.posix_spawn(sys.executable, sys.orig_argv, os.environ)
    while True:
        ended, status = os.wait()  # also for what lost its parent
        if ended == second:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)


def main() -> None:
    """Runs the program on standard input and reports how it ended; never returns."""
    if os.getpid() == 1:
        end_as_a_second()
    with open(0, "rb", closefd=False) as given:
        secret, source = given.read(32), given.read().decode("utf-8", "surrogatepass")
    report, nothing = os.dup(1), os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    user, memory, processes, size, seconds = map(int, sys.argv[1:6])
    sys.path += sys.argv[6:]
    if user:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    limits = {"AS": memory, "FSIZE": size, "CORE": 0, "NOFILE": 64} | ({"NPROC": processes} if processes else {})
    for name, value in limits.items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))  # SIGXCPU, and SIGKILL for a program that ignores it
    write, leave, own = os.write, os._exit, os.getpid()  # a program may put others in their place
    write(report, READY)
    said = secret
    try:
        exec(compile(source, "program", "exec", dont_inherit=True), {})  # noqa: S102 - what this program is for
    except MemoryError:
        said = b"memory"
    except BaseException as error:
        said = b"failed " + f"{type(error).__name__}: {error}"[:SHOWN].encode("utf-8", "replace")
    if os.getpid() == own:
        write(report, said)
    leave(0)


if __name__ == "__main__":
    main()
