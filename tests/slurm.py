"""A Slurm of one node on this machine, for tests: munged, slurmctld and slurmd in a folder of their own, without systemd."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DAEMONS = ("munged", "slurmctld", "slurmd")
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"

# The node says that it has more than it has, so that scripts for real nodes run as they are; its two GPUs are devices that any
# machine has. Two of these number their jobs differently, because ports follow from the numbers. A job starts again once its
# credential has expired: after 5 s, in place of two minutes.
CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
FirstJobId={ports[0]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
MailProg=/bin/true
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_interval=1
SlurmdParameters=config_overrides
KillWait=2
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=64 RealMemory=500000 Gres=gpu:2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
GPUS = "Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n"


def missing() -> str:
    """Returns why no Slurm can run here; empty if one can."""
    absent = [name for name in (*DAEMONS, "sbatch") if shutil.which(name, path=PATH) is None]
    if absent:
        return f"no Slurm here (apt-get install slurmctld slurmd slurm-client munge): {', '.join(absent)} not found"
    return "" if os.geteuid() == 0 else "a Slurm of our own is started as root alone"


class Slurm:
    """Use it as a context manager; its end ends jobs and daemons.

    Args:
        folder: Where all its files go; its path must be short, because a socket is in it.
        programs: Starts the daemons.
        environment: What jobs see.
    """

    def __init__(self, folder: Path, programs: Any, environment: dict[str, str]) -> None:
        self._folder, self._programs = folder, programs
        self.environment = {**environment, "SLURM_CONF": str(folder / "slurm.conf")}
        self.environment["PATH"] = f"{environment['PATH']}:/usr/sbin:/sbin"

    def __enter__(self) -> Slurm:
        host = socket.gethostname().partition(".")[0]
        configuration = CONFIGURATION.format(folder=self._folder, host=host, ports=[_free_port(), _free_port()])
        (self._folder / "slurm.conf").write_text(configuration)
        (self._folder / "gres.conf").write_text(GPUS)
        key = self._folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        for name in ("state", "spool"):
            (self._folder / name).mkdir()
        munge = {"socket": "munge.socket", "key-file": key.name, "pid-file": "munge.pid", "log-file": "munge.log"}
        words = [f"--{name}={self._folder / file}" for name, file in (munge | {"seed-file": "munge.seed"}).items()]
        self._daemon("munged", "--force", "--foreground", *words)
        self._until(lambda: (self._folder / "munge.socket").exists(), "munged")
        self._daemon("slurmctld", "-D", "-c")
        self._daemon("slurmd", "-D")
        self._until(lambda: "idle" in self.call("sinfo", "-h", check=False), "slurmd")
        return self

    def __exit__(self, *error: object) -> None:
        for job in self.call("squeue", "-h", "-o", "%A", check=False).split():
            self.call("scancel", job, check=False)
        self._until(lambda: not self.call("squeue", "-h", check=False), "a job")

    def call(self, *words: object, check: bool = True) -> str:
        """Returns what one of Slurm's commands, or a command that a user gives beside them, prints."""
        line = [str(word) for word in words]
        done = subprocess.run(line, env=self.environment, capture_output=True, text=True, check=False, timeout=300)
        if check and done.returncode:
            raise AssertionError(f"{' '.join(line)}: {done.stderr}")
        return done.stdout

    def submit(self, *words: object) -> str:
        """Submits a job, whose files go to the current folder; returns its number."""
        return self.call("sbatch", "--parsable", "--time=60", *words).strip()

    def about(self, job: str) -> dict[str, str]:
        """Returns what Slurm says of a job, e.g. ``JobState`` and ``Restarts``; of an array, of its last task."""
        said = self.call("scontrol", "--oneliner", "show", "job", job)
        return dict(_pairs(said.splitlines()[-1]))

    def ended(self, *jobs: str, seconds: float = 300.0) -> list[dict[str, str]]:
        """Waits for jobs, all tasks of arrays included; returns what Slurm says of each of them."""
        last = time.monotonic() + seconds
        while self.call("squeue", "-h", "-j", ",".join(jobs), check=False):
            assert time.monotonic() < last, self.call("scontrol", "show", "job")
            time.sleep(0.2)
        return [self.about(job) for job in jobs]

    def _daemon(self, name: str, *words: str) -> None:
        program = shutil.which(name, path=PATH)
        nothing = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._programs.start(program, *words, env=self.environment, **nothing)

    def _until(self, there: Any, what: str) -> None:
        last = time.monotonic() + 240.0
        while not there():
            logs = "\n".join(path.read_text()[-2000:] for path in self._folder.glob("*.log"))
            assert time.monotonic() < last, f"{what} is not as it should be after 240 s:\n{logs}"
            time.sleep(0.1)


def environment_of_jobs(folder: Path) -> dict[str, str]:
    """Returns this environment, in which ``tulu-eval`` is that of this checkout, and ``torchrun`` and ``ray`` this Python's."""
    program = folder / "bin" / "tulu-eval"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m tulu_eval "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    root = Path(__file__).resolve().parent.parent
    return {**os.environ, "PATH": path, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}


def _pairs(said: str) -> Iterator[tuple[str, str]]:
    for word in said.split():
        name, _, value = word.partition("=")
        yield name, value


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
