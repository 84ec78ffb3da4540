"""Ranks and micro-batches give the same gradients; a killed run ends with the bits of an uninterrupted one.

Each rank is a process that ``workers.py`` forks, so that its packages are imported once. One rank is killed 8 times and two
ranks 3 times, each time in another part of the run's length; ``TULU_EVAL_KILLS`` sets another number for both.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from tulu_eval.errors import PreflightError, UserError
from tulu_eval.training import parallel

WORKERS = Path(__file__).with_name("workers.py")
pytestmark = pytest.mark.timeout(1500)


@dataclasses.dataclass
class Rank:
    """A process that ``workers.py`` forked."""

    workers: Workers
    pid: int
    errors: Path
    code: int | None = None

    def poll(self) -> int | None:
        """Returns the exit code, negative after a signal; ``None`` while it runs."""
        if self.code is None:
            self.code = self.workers.ask({"poll": self.pid})
        return self.code

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        while self.poll() is None:
            time.sleep(0.001)


class Workers:
    """The program ``workers.py``, which has imported all that its forks need."""

    def __init__(self, programs: Any) -> None:
        self._program = programs.start(sys.executable, WORKERS, stdin=subprocess.PIPE)

    def ask(self, question: dict[str, Any]) -> Any:
        self._program.stdin.write(json.dumps(question) + "\n")
        self._program.stdin.flush()
        answer = self._program.stdout.readline()
        if not answer:
            raise AssertionError(f"the workers ended: {self._program.communicate()[1]}")
        return json.loads(answer)

    def begin(self, job: str, folder: Path, world: int) -> list[Rank]:
        """Forks the ranks of a job."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
        size = {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world)}
        made = []
        for rank in range(world):
            environment = {**address, **size, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            errors = folder.parent / f"{folder.name}-{job}-{world}-{rank}.stderr"
            order = {"job": job, "folder": str(folder), "environment": environment, "errors": str(errors)}
            made.append(Rank(self, self.ask(order), errors))
        return made


@pytest.fixture(scope="module")
def workers(program_group: Any) -> Iterator[Workers]:
    with program_group() as group:
        yield Workers(group)


def finish(ranks: list[Rank]) -> None:
    """Waits for ranks, all of which must succeed; where one fails, the others would wait for it."""
    left = list(ranks)
    while left:
        time.sleep(0.005)
        for rank in list(left):
            code = rank.poll()
            if code:
                raise AssertionError(f"a rank exited with {code}: {rank.errors.read_text()[-3000:]}")
            if code == 0:
                left.remove(rank)
    for rank in ranks:
        assert "Warning" not in rank.errors.read_text()


def test_ranks_and_micro_batches_give_the_same_gradients(tmp_path: Path, workers: Workers) -> None:
    for world in (1, 2, 4):
        finish(workers.begin("gradients", tmp_path, world))
    files = sorted(tmp_path.glob("gradients-*.pt"))
    assert [path.stem for path in files] == ["gradients-1-24", "gradients-1-4096", "gradients-2-24", "gradients-4-1"]
    alone = torch.load(tmp_path / "gradients-1-4096.pt")
    assert set(alone) == {"sft", "rm", "dpo", "ppo"}
    largest = 0.0
    for path in files:
        found = torch.load(path)
        for stage, gradients in alone.items():
            assert set(found[stage]) == set(gradients)
            assert max(float(gradient.abs().max()) for gradient in gradients.values()) > 0.01
            for name, gradient in gradients.items():
                largest = max(largest, float((found[stage][name] - gradient).abs().max()))
    print(f"largest gradient difference {largest:.2e}")
    assert largest <= 1e-6


def test_a_rank_loads_its_rows_and_gathers_two_units(tmp_path: Path, workers: Workers) -> None:
    """No rank holds more than two units in the compute dtype, or reads more than its shards: 1 and 2 ranks, 8 and 16 layers.

    The vocabulary is 30 times the width; bytes of weights and gather buffers count, forward and backward.
    """
    for world in (1, 2):
        finish(workers.begin("memory", tmp_path, world))
        peaks = json.loads((tmp_path / f"low-precision-{world}.json").read_text())
        for depth in peaks.values():
            assert 0 < depth["peak"] <= depth["two largest"] < depth["whole"] / 2
        assert peaks["8"]["peak"] == peaks["16"]["peak"]

    alone, *both = (torch.load(tmp_path / f"loaded-{name}.pt") for name in ("1-0", "2-0", "2-1"))
    stored = load_file(tmp_path / "made" / "model.safetensors")
    assert alone["read"] == sum(one["read"] for one in both) == sum(tensor.nbytes for tensor in stored.values())
    assert max(one["read"] for one in both) < 0.6 * alone["read"]
    for one in (alone, *both):
        for name, tensor in stored.items():
            assert torch.equal(one["policy"][f"model.{name}"], tensor)
        assert torch.equal(one["scorer"]["model.score.weight"], alone["scorer"]["model.score.weight"])
        assert one["outputs"]["packed"]
        assert one["outputs"]["plain"]
        for name in ("policy", "scorer"):
            assert torch.equal(one["outputs"][name], alone["outputs"][name])
    assert float(alone["outputs"]["policy"].abs().max()) > 0.1

    sent = [torch.load(tmp_path / f"sent-{name}.pt") for name in ("1-0", "2-0", "2-1")]
    stored = {name: tensor.bfloat16() for name, tensor in load_file(tmp_path / "sixteen" / "model.safetensors").items()}
    largest = max(tensor.nbytes for tensor in stored.values())
    for one in sent:
        assert set(one["got"]) == set(stored)
        assert all(torch.equal(one["got"][name], tensor) for name, tensor in stored.items())
        assert one["sums"] == sent[0]["sums"]
        # The largest tensor and its shard.
        assert largest <= one["peak"] <= 2.5 * largest < one["bytes"] / 30


def test_all_ranks_wait_for_what_a_machine_prepares() -> None:
    store, done = dist.HashStore(), []

    def prepare(seconds: float) -> None:
        time.sleep(seconds)
        done.append(seconds)

    with ThreadPoolExecutor() as pool:
        late = pool.submit(parallel.prepared, store, 1, 2, lambda: prepare(0.3))
        parallel.prepared(store, 0, 2, lambda: prepare(0.0))
        assert done == [0.0, 0.3]
        late.result()


def test_a_machine_that_cannot_prepare_ends_all_ranks_with_a_line() -> None:
    def fail() -> None:
        raise UserError("the hub is unreachable")

    store = dist.HashStore()
    with pytest.raises(UserError, match=r"^the hub is unreachable$"):
        parallel.prepared(store, 1, 2, fail)
    with pytest.raises(PreflightError, match=r"^rank 1: the hub is unreachable$"):
        parallel.prepared(store, 0, 2, lambda: None)


@pytest.mark.parametrize(("world", "kills"), [(1, 8), (2, 3)])
def test_killed_runs_end_with_the_same_bits(tmp_path: Path, workers: Workers, world: int, kills: int) -> None:
    kills = int(os.environ.get("TULU_EVAL_KILLS", kills))

    def ends(ranks: list[Rank], folder: Path, before: float) -> float:
        """Waits for a run's hash; returns the seconds that it took, or ``inf`` where ``before`` seconds went by first."""
        began = time.monotonic()
        while not (folder / "hash").exists():
            if time.monotonic() > began + before or any(rank.poll() for rank in ranks):
                return math.inf
            time.sleep(0.002)
        return time.monotonic() - began

    ranks = workers.begin("ppo", tmp_path / "whole", world)
    seconds = ends(ranks, tmp_path / "whole", math.inf)
    finish(ranks)
    whole = (tmp_path / "whole" / "hash").read_text()
    hashes: list[str] = []
    draw = random.Random(world)
    moments = [0.1 + 0.8 * (part + draw.random()) / kills for part in range(kills)]
    draw.shuffle(moments)
    killed = 0
    while killed < kills:
        at = tmp_path / f"killed-{len(hashes)}"
        ranks = workers.begin("ppo", at, world)
        took = ends(ranks, at, moments[killed] * seconds)
        if took < math.inf:  # faster than the runs before: the moments are parts of this length from now on
            seconds = took
            finish(ranks)
            hashes.append((at / "hash").read_text())
            continue
        assert not any(rank.poll() for rank in ranks)
        for rank in ranks:
            rank.kill()
        killed += 1
    last = tmp_path / f"killed-{len(hashes)}"
    finish(workers.begin("ppo", last, world))
    hashes.append((last / "hash").read_text())
    print(f"{world} rank(s): {kills} kills in {len(hashes)} runs of {seconds:.1f} s each")
    assert set(hashes) == {whole}
    if world > 1:
        finish(workers.begin("load", tmp_path / "whole", 1))
        assert (tmp_path / "whole" / "alone").read_text() == whole
