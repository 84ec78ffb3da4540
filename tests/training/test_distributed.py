"""Ranks and micro-batches give the same gradients; a killed run ends with the bits of an uninterrupted one.

Each rank is a program of its own (``workers.py``). One rank is killed 8 times and two ranks 3 times, each time in another part
of the run's length; ``TULU_EVAL_KILLS`` sets another number for both.
"""

from __future__ import annotations

import json
import math
import os
import random
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from tulu_eval.errors import PreflightError, UserError
from tulu_eval.training import parallel

QUICK = "import gc, runpy, sys; gc.disable(); sys.modules['sklearn'] = None; runpy.run_path(sys.argv[1], run_name='__main__')"
"""Runs a program whose imports take 5 s of a core and not 8: transformers imports scikit-learn where it finds it."""

WORKER = (sys.executable, "-c", QUICK, Path(__file__).with_name("workers.py"))
pytestmark = pytest.mark.timeout(1500)  # a dozen starts import for 5 s of a core each, on a machine with ten other jobs

Child = subprocess.Popen[str]


@pytest.fixture
def begin(programs: Any) -> Any:
    """Gives waiting programs a job to do together."""

    def call(children: list[Child], job: str, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
        world = {"WORLD_SIZE": str(len(children)), "LOCAL_WORLD_SIZE": str(len(children))}
        for rank, child in enumerate(children):
            place = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            programs.go(child, json.dumps({"job": job, "folder": str(folder), "environment": {**address, **world, **place}}))

    return call


def finish(children: list[Child]) -> None:
    """Waits for programs, all of which must succeed; where one fails, the others would wait for it."""
    while None in (codes := [child.poll() for child in children]) and not any(codes):
        time.sleep(0.005)
    for child, code in zip(children, codes, strict=True):
        if code:
            raise AssertionError(f"a rank exited with {code}: {child.communicate()[1][-3000:]}")
    for child in children:
        assert "Warning" not in child.communicate()[1]


def test_ranks_and_micro_batches_give_the_same_gradients(tmp_path: Path, programs: Any, begin: Any) -> None:
    for world in (1, 2, 4):
        children = [programs.waiting(*WORKER) for _ in range(world)]
        begin(children, "gradients", tmp_path)
        finish(children)
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


def test_a_rank_loads_its_rows_and_gathers_two_units(tmp_path: Path, programs: Any, begin: Any) -> None:
    """No rank holds more than two units in the compute dtype, or reads more than its shards: 1 and 2 ranks, 8 and 16 layers.

    The vocabulary is 30 times the width; bytes of weights and gather buffers count, forward and backward.
    """
    spares = programs.spares(*WORKER, ahead=2)
    for world in (1, 2):
        children = [next(spares) for _ in range(world)]
        begin(children, "memory", tmp_path)
        finish(children)
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
def test_killed_runs_end_with_the_same_bits(tmp_path: Path, programs: Any, begin: Any, world: int, kills: int) -> None:
    spares = programs.spares(*WORKER, ahead=world)
    kills = int(os.environ.get("TULU_EVAL_KILLS", kills))

    def start(job: str, folder: Path, ranks: int = world) -> list[Child]:
        children = [next(spares) for _ in range(ranks)]
        begin(children, job, folder)
        return children

    def ends(children: list[Child], folder: Path, before: float) -> float:
        """Waits for a run's hash; returns the seconds that it took, or ``inf`` where ``before`` seconds went by first."""
        began = time.monotonic()
        while not (folder / "hash").exists():
            if time.monotonic() > began + before or any(child.poll() for child in children):
                return math.inf
            time.sleep(0.002)
        return time.monotonic() - began

    children = start("ppo", tmp_path / "whole")
    seconds = ends(children, tmp_path / "whole", math.inf)
    finish(children)
    whole = (tmp_path / "whole" / "hash").read_text()
    hashes: list[str] = []
    draw = random.Random(world)
    moments = [0.1 + 0.8 * (part + draw.random()) / kills for part in range(kills)]
    draw.shuffle(moments)
    killed = 0
    while killed < kills:
        at = tmp_path / f"killed-{len(hashes)}"
        children = start("ppo", at)
        took = ends(children, at, moments[killed] * seconds)
        if took < math.inf:  # faster than the runs before: the moments are parts of this length from now on
            seconds = took
            finish(children)
            hashes.append((at / "hash").read_text())
            continue
        assert not any(child.poll() for child in children)
        for child in children:
            child.kill()
        for child in children:
            child.communicate()
        killed += 1
    last = tmp_path / f"killed-{len(hashes)}"
    finish(start("ppo", last))
    hashes.append((last / "hash").read_text())
    print(f"{world} rank(s): {kills} kills in {len(hashes)} runs of {seconds:.1f} s each")
    assert set(hashes) == {whole}
    if world > 1:
        finish(start("load", tmp_path / "whole", ranks=1))
        assert (tmp_path / "whole" / "alone").read_text() == whole
