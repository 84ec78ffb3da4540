"""What programs can do in the sandbox: by counting what there was of processes, memory and files, as root and as a user."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tulu_eval.errors import PreflightError
from tulu_eval.sandbox import Execution, Limits, Outcome, check_sandbox, launching, programs, run_programs

Runner = Callable[..., list[Outcome]]

MIB = 1 << 20

FORK = "os." + "fork()"
"""For programs in the sandbox; ``test_habits.py`` looks for it in programs outside."""


def raising(expression: str) -> str:
    """A program that says what an expression is."""
    return f"import os; raise ValueError({expression})"


def said(outcome: Outcome) -> str:
    assert outcome.ending == "failed"
    return outcome.why.removeprefix("ValueError: ")


def test_how_programs_end(run: Runner) -> None:
    found = run(
        [
            "x = 1\nassert x == 1",
            "assert 1 == 2, 'no'",
            "x = (",
            "x = '\0'",
            "x = bytearray(1 << 30)",
            "import os; os.kill(os.getpid(), 11)",
            "while True: pass",
            "import math, typing, collections, re, hashlib, heapq, itertools, functools, string, random, datetime, copy",
        ],
        Limits(seconds=1),
    )
    assert [one.ending for one in found] == [
        "passed", "failed", "failed", "failed", "memory", "killed", "timed_out", "passed"
    ]  # fmt: skip
    assert [one.why for one in found[:3]] == ["", "AssertionError: no", "SyntaxError: '(' was never closed (program, line 1)"]
    assert [one.why for one in found[4:7]] == ["MemoryError", "ended by SIGSEGV", "did not end in 1 s of CPU time"]


def test_outcomes_come_in_order_and_no_program_changes_the_next(run: Runner) -> None:
    """The first writes wherever it can; the second finds nothing of that."""
    write = "import os, builtins; open('left', 'w').write('x'); os.environ['LEFT'] = 'x'; builtins.len = None"
    look = "import os; assert not os.path.exists('left') and 'LEFT' not in os.environ and len('ab') == 2"
    assert [one.ending for one in run([write, look, "1/0", look] * 3)] == ["passed", "passed", "failed", "passed"] * 3


def test_a_program_that_waits_is_stopped(sandbox: None, monkeypatch: pytest.MonkeyPatch, census: Any) -> None:
    monkeypatch.setattr(programs, "PATIENCE", 2)
    with census.counting():
        found = list(
            run_programs(["import time; time.sleep(600)", "import os; os.closerange(0, 64)\nwhile True: pass"], Limits(1))
        )
    assert (found[0].ending, found[0].why) == ("timed_out", "did not end in 2 s")
    assert found[1].ending == "timed_out"


def test_a_fork_bomb_has_no_more_processes_than_it_may(run: Runner, census: Any) -> None:
    bomb = "import os\nwhile True:\n    try: " + FORK + "\n    except OSError: pass"
    with census.counting():
        (found,) = run([bomb], Limits(seconds=1, processes=5))
    assert found.ending == "timed_out"
    assert 4 <= census.most <= 6  # and bubblewrap's own


def test_threads_count_as_processes(run: Runner) -> None:
    start = "import threading, time; [threading.Thread(target=time.sleep, args=(9,), daemon=True).start() for _ in range({})]"
    few, many = run([start.format(3), start.format(4)], Limits(processes=4))
    assert few.ending == "passed"
    assert (many.ending, many.why) == ("failed", "RuntimeError: can't start new thread")


def test_ten_processes_together_hold_no_more_than_the_limit(run: Runner, census: Any) -> None:
    many = (
        "import os, time\nread, write = os.pipe()\nchildren = 0\nfor _ in range(10):\n    try:\n        if " + FORK + ":\n"
        "            children += 1\n        else:\n            kept = b'x' * 200_000_000\n            os.write(write, b'x')\n"
        "            time.sleep(600)\n    except OSError: pass\nfor _ in range(children): os.read(read, 1)\ntime.sleep(1)"
    )
    limits = Limits(memory=256 * MIB, processes=4)
    with census.counting():
        (found,) = run([many], limits)
    assert found.ending == "passed"
    assert 600_000_000 < census.memory < limits.memory * limits.processes + limits.scratch


@pytest.mark.parametrize(
    "making",
    [
        "ctypes.CDLL(None).memfd_create(b'x', 0)",
        "ctypes.CDLL(None).shmget(0, 1 << 30, 0o1600)",
        "ctypes.CDLL(None).msgget(0, 0o1600)",
        "ctypes.CDLL(None).unshare(0x10000000)",
        "ctypes.CDLL(None).ptrace(16, 1, 0, 0)",
        "ctypes.CDLL(None).syscall(425, 8, 0)",
        "ctypes.CDLL(None).mount(b'none', b'/scratch', b'tmpfs', 0, 0)",
    ],
)
def test_calls_that_pass_by_the_limits_are_denied(run: Runner, making: str) -> None:
    (found,) = run([f"import ctypes, os; ctypes.CDLL(None, use_errno=True); raise ValueError({making})"])
    assert said(found) == "-1"


def test_the_scratch_folder_is_small_and_nothing_else_is_written(run: Runner) -> None:
    fill = "for n in range(9): open(str(n), 'w').write('x' * 4_000_000)"
    own = "open('a', 'w').write('x'); assert open('/scratch/a').read() == 'x'"
    places = ["/x", "/tmp/x", "/usr/lib/x", f"{Path(os.__file__).parent}/x", "/root/x", "/dev/x", "/etc/x", "/packages/x"]
    found = run([fill, own, *(f"open({place!r}, 'w')" for place in places)])
    assert "No space left on device" in found[0].why
    assert found[1].ending == "passed"
    for place, outcome in zip(places, found[2:], strict=True):
        assert outcome.ending == "failed"
        assert "Read-only file system" in outcome.why or "No such file" in outcome.why or "Permission denied" in outcome.why
        assert not os.path.exists(place)


def test_files_of_the_machine_are_not_there(run: Runner, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("secret")
    asked = [
        "/etc/passwd",
        "/etc/hostname",
        f"/proc/{os.getpid()}/environ",
        "/proc/self/environ",
        "/home",
        "/tmp",
        "/sys",
        str(own),
    ]
    found = run([raising(f"[path for path in {asked} if os.path.exists(path)]"), raising("sorted(os.listdir('/dev'))")])
    assert list(map(said, found)) == ["[]", "['null', 'urandom']"]
    homes = said(run([raising("os.listdir('/root') if os.path.exists('/root') else []")])[0])
    assert homes in ("[]", "['.pyenv']") or str(Path.home()) in sys.base_prefix


def test_the_environment_and_the_user_are_not_the_user_s(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    names, user, groups, host = map(
        said, run([raising(f"{one}") for one in ("sorted(os.environ)", "os.getuid()", "os.getgroups()", "os.uname().nodename")])
    )
    assert names == "['HOME', 'LC_CTYPE', 'OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'PWD', 'PYTHONHASHSEED', 'TMPDIR']"
    assert int(user) != 0
    assert groups in ("[]", "[65534]")
    assert host == "sandbox"


def test_there_is_no_network(run: Runner) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        near = f"import socket; socket.create_connection(('127.0.0.1', {port}), 5)"
        far = "import socket; socket.create_connection(('192.0.2.1', 80), 5)"
        named = "import socket; socket.getaddrinfo('example.org', 80)"
        found = run([near, far, named])
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert [one.why.partition(":")[0] for one in found] == ["ConnectionRefusedError", "OSError", "gaierror"]
    assert "Network is unreachable" in found[1].why


def test_a_program_kills_only_itself(run: Runner) -> None:
    """Signals reach no process outside; the first process of the namespace ignores them or is another user's."""
    kill = "import os\nfor pid in (os.getppid(), 1, -1):\n    try: os.kill(pid, 9)\n    except OSError: pass"
    found = run([kill, "pass", kill, "pass"])
    assert [one.ending for one in found] == ["passed"] * 4


def test_a_flood_goes_nowhere(run: Runner) -> None:
    flood = "import os, sys\nline = 'x' * 1_000_000\nwhile True:\n    os.write(1, line.encode()); os.write(2, line.encode())"
    before = psutil.Process().memory_info().rss
    (found,) = run([flood], Limits(seconds=1))
    assert found.ending == "timed_out"
    assert psutil.Process().memory_info().rss - before < 100 * MIB
    write = "        try: os.write(n, b'x' * 1_000_000)\n        except OSError: pass"
    report = f"import os\nwhile True:\n    for n in range(3, 64):\n{write}"
    (found,) = run([report], Limits(seconds=1))
    assert (found.ending, found.why) == ("failed", "wrote something else than the driver does")


FORGERIES = {
    "_exit": "import os; os._exit(0)",
    "exit": "import sys; sys.exit(0)",
    "SystemExit": "raise SystemExit",
    "atexit": "import atexit, os; atexit.register(os._exit, 0); raise SystemExit",
    "excepthook": "import sys; sys.excepthook = lambda *e: None; 1/0",
    "thread": "import threading, os; threading.Thread(target=os._exit, args=(0,)).start()\nwhile True: pass",
    "alarm": "import signal, os; signal.signal(14, lambda *a: os._exit(0)); signal.alarm(1)\nwhile True: pass",
    "print": "print('passed'); import os; os.write(2, b'passed'); os._exit(0)",
    "guess": "import os\nfor n in range(64):\n    try: os.write(n, b'0' * 32)\n    except OSError: pass\nos._exit(0)",
    "ready": "import os\nfor n in range(64):\n    try: os.write(n, b'\\0ready\\n')\n    except OSError: pass\nos._exit(0)",
    "close": "import os; os.closerange(0, 64); os._exit(0)",
    "caught": "import builtins; builtins.BaseException = ZeroDivisionError; raise ValueError",
    "write": "import os; os.write = lambda *a: 0; os._exit = lambda c: None; 1/0",
    "child": "import os\nif " + FORK + ": os._exit(0)",
    "trace": "import sys; sys.settrace(lambda *a: sys.exit(0)); (lambda: 1)()",
    "del": "class A:\n    def __del__(self): import os; os._exit(0)\na = A(); 1/0",
    "str": "import os\nclass E(Exception):\n    def __str__(self): os._exit(0)\nraise E",
}


@pytest.mark.parametrize("how", FORGERIES)
def test_nothing_passes_that_did_not_come_to_its_end(run: Runner, how: str) -> None:
    (found,) = run([FORGERIES[how] + "\nassert False, 'the check'"])
    assert found.ending in ("failed", "killed")
    assert found.why


def test_what_a_program_can_forge(sandbox: None) -> None:
    """As the module's docstring says; a test that fails here says that it can no longer."""
    frames = (
        "import sys\nframe = sys._getframe().f_back\n"
        "frame.f_locals['write'](frame.f_locals['report'], frame.f_locals['secret']); frame.f_locals['leave'](0)\nassert False"
    )
    equal = "class Any:\n    def __eq__(self, other): return True\nassert (lambda x: Any())(1) == 2"
    assert [one.ending for one in run_programs([frames, equal])] == ["passed", "passed"]


def test_a_program_may_import_the_packages_asked_for(sandbox: None) -> None:
    program = "import numpy; assert numpy.arange(4).sum() == 6"
    limits = Limits(seconds=20)  # a first import reads 40 MB
    assert [one.ending for one in run_programs([program], limits, packages=("numpy",))] == ["passed"]
    (found,) = run_programs([program], limits)
    assert found.why == "ModuleNotFoundError: No module named 'numpy'"
    (found,) = run_programs(["import click"], limits, packages=("numpy",))
    assert found.ending == "failed"


def test_the_words_of_a_program_are_one_printable_line(sandbox: None) -> None:
    (found,) = run_programs(["raise ValueError('a\\x1b[31m\\nb' + 'c' * 10_000)"])
    assert found.why.startswith("ValueError: a?[31m b")
    assert len(found.why) <= 200


def test_a_text_that_is_no_text_is_a_program_that_fails(sandbox: None) -> None:
    assert [one.ending for one in run_programs(["x = '\udc80'", ""])] == ["failed", "passed"]


def test_nothing_is_left_when_the_harness_is_killed(sandbox: None, programs: Any, census: Any) -> None:
    code = "from tulu_eval.sandbox import *; print('up', flush=True); list(run_programs(['import time; time.sleep(600)'] * 4))"
    child = programs.start(sys.executable, "-c", code)
    assert child.stdout.readline() == "up\n"
    deadline = time.monotonic() + 60
    while len(census.inside()) < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    seen = census.inside()
    assert len(seen) >= 4
    child.kill()
    child.wait()
    while any(one.is_running() for one in seen) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(one.is_running() for one in seen)


def test_without_a_sandbox_nothing_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    mark = tmp_path / "mark"
    with pytest.raises(PreflightError, match=r"needs bwrap: install bubblewrap, or run .*--unsafe-execution$") as caught:
        list(run_programs([f"open({str(mark)!r}, 'w')"]))
    assert "\n" not in str(caught.value)
    assert not mark.exists()
    with pytest.raises(PreflightError, match="install bubblewrap"):
        check_sandbox(Execution())


def test_a_sandbox_that_cannot_be_made_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2; exit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(PreflightError, match=r"no sandbox can be made here \(bwrap: setting up uid map: Permission denied\)"):
        check_sandbox(Execution())


def test_an_unsafe_execution_is_the_user_s_choice(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    unsafe = Execution(unsafe=True)
    ends = ["import os; os._exit(0)", "while True: pass", "x = bytearray(1 << 30)", "import os; os.kill(os.getpid(), 11)"]
    found = list(run_programs([f"open({str(mark)!r}, 'w')", *ends], Limits(seconds=1), unsafe))
    assert [one.ending for one in found] == ["passed", "failed", "timed_out", "memory", "killed"]
    assert mark.exists()
    check_sandbox(unsafe)


def test_a_package_that_is_not_installed_is_named() -> None:
    with pytest.raises(PreflightError, match="pip install no_such_package_here"):
        launching.launcher(Execution(), Limits(), ("no_such_package_here",))
