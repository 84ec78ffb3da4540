"""A rank that is killed, stopped, cut off or never there ends the others with one line; each test has two small programs."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

WATCHED = Path(__file__).with_name("watched.py")
LINE = r"^tulu-eval: rank 0 ends in step \d+: nothing heard from rank 1 \(.+\) for \d+ s; the last checkpoint is whole: give "


def start(programs: Any, seconds: float, pause: float, ranks: tuple[int, ...] = (0, 1), steps: int = 10000) -> list[Any]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    own = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    words = (sys.executable, WATCHED, seconds, pause, steps)
    return [programs.start(*words, env={**own, "RANK": str(rank)}) for rank in ranks]


def until_step(child: Any, step: int) -> None:
    while (line := child.stdout.readline()) != f"step {step}\n":
        assert line, child.communicate()[1]


def ended(child: Any, limit: float) -> str:
    """Returns the one line of a rank that ends by itself within some seconds."""
    began = time.monotonic()
    _, errors = child.communicate(timeout=120)
    assert time.monotonic() - began < limit, errors
    assert child.returncode == 2, errors
    lines = [line for line in errors.splitlines() if not line.startswith("[")]
    assert len(lines) == 1, errors
    return lines[0]


def test_ranks_that_finish_say_nothing(programs: Any) -> None:
    for child in start(programs, 60, 1.5, steps=3):
        out, errors = child.communicate(timeout=120)
        assert (child.returncode, out.split("\n")[-2], errors) == (0, "step 3", "")


def test_a_killed_rank(programs: Any) -> None:
    first, second = start(programs, 60, 0.2)
    until_step(first, 2)
    second.kill()
    assert re.match(LINE, ended(first, 30))


def test_a_rank_that_hangs(programs: Any) -> None:
    first, second = start(programs, 4, 0.2)
    until_step(first, 2)
    second.send_signal(signal.SIGSTOP)
    assert re.match(LINE, ended(first, 30))


def test_sigterm_is_acted_on_inside_a_collective(programs: Any) -> None:
    first, second = start(programs, 600, 0.2)
    until_step(first, 2)
    second.send_signal(signal.SIGSTOP)
    time.sleep(1)
    first.send_signal(signal.SIGTERM)
    began = time.monotonic()
    assert re.match(LINE, ended(first, 30))
    assert time.monotonic() - began < 10


def test_sigterm_where_all_ranks_answer_ends_after_the_step(programs: Any) -> None:
    both = start(programs, 60, 0.2)
    until_step(both[0], 2)
    for child in both:
        child.send_signal(signal.SIGTERM)
    codes = [child.wait(timeout=120) for child in both]
    assert 0 in codes, [child.communicate()[1] for child in both]


def test_a_rank_that_never_comes(programs: Any) -> None:
    (alone,) = start(programs, 4, 0.2, ranks=(0,))
    line = ended(alone, 60)
    assert re.match(r"tulu-eval: rank 0 ends in the start, before step 1: nothing heard from rank 1 for \d+ s; ", line)


def test_torchrun_starts_the_ranks_again(programs: Any) -> None:
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "1")
    run = programs.start(*launcher, WATCHED, 60, 0.1, 4, "kill", env={**os.environ, "OMP_NUM_THREADS": "1"})
    out, errors = run.communicate(timeout=300)
    assert run.returncode == 0, errors
    assert out.splitlines().count("step 4") == 2
    assert "Traceback" not in errors


def test_a_link_that_goes_down(programs: Any, hosts: tuple[str, str]) -> None:
    """Both sides end: the one that has the store, and the one that has lost it."""
    own = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "10.77.0.1", "MASTER_PORT": "29512", "OMP_NUM_THREADS": "1"}
    both = []
    for rank, name in enumerate(hosts):
        words = ("ip", "netns", "exec", name, sys.executable, WATCHED, 5, 0.2, 10000)
        both.append(programs.start(*words, env={**own, "RANK": str(rank), "GLOO_SOCKET_IFNAME": f"v{name}"}))
    until_step(both[0], 2)
    subprocess.run(["ip", "-n", hosts[0], "link", "set", f"v{hosts[0]}", "down"], check=True)
    assert re.match(LINE, ended(both[0], 60))
    assert re.match(r"tulu-eval: rank 1 ends in step \d+: nothing heard from rank 0", ended(both[1], 60))
