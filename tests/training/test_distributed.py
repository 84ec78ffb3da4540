"""Ranks and micro-batches give the same gradients; a killed run ends with the bits of an uninterrupted one.

Each test starts one program (``workers.py``) that forks its processes. The kills are 20 on one rank and 3 on two (about 20 s
each, most of it waiting for the next kill); ``TULU_EVAL_KILLS`` sets another number for both.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

WORKERS = Path(__file__).with_name("workers.py")


def run(*arguments: object) -> str:
    done = subprocess.run([sys.executable, WORKERS, *map(str, arguments)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Warning" not in done.stderr
    return done.stdout


def test_ranks_and_micro_batches_give_the_same_gradients(tmp_path: Path) -> None:
    run("gradients", tmp_path)
    files = sorted(tmp_path.glob("gradients-*.pt"))
    assert {path.stem.split("-")[1] for path in files} == {"1", "2", "4"}
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


@pytest.mark.parametrize(("world", "kills"), [(1, 20), (2, 3)])
def test_killed_runs_end_with_the_same_bits(tmp_path: Path, world: int, kills: int) -> None:
    found = json.loads(run("resume", tmp_path, world, int(os.environ.get("TULU_EVAL_KILLS", kills))))
    print(f"{world} rank(s): {found}")
    assert found["killed"]
    assert set(found["killed"]) == {found["whole"]}
    if world > 1:
        assert found["alone"] == found["whole"]
