"""The examples as a scheduler starts them, with Slurm's variables."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.fixture
def words(llama3_like: Path, rows: Path, tmp_path: Path) -> list[str]:
    """What it passes to ``tulu-eval run``."""
    out = ["--output", str(tmp_path / "out"), "--quiet"]
    return ["gsm8k", "--model", str(llama3_like), "--protocol", "custom", "--data", str(rows), "--device", "cpu", *out]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """With a ``tulu-eval`` on the path that is this one."""
    program = tmp_path / "bin" / "tulu-eval"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m tulu_eval "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(EXAMPLES.parent)}


def test_a_slurm_array_makes_one_run(words: list[str], environment: dict[str, str], tmp_path: Path) -> None:
    script = str(EXAMPLES / "slurm_array.sh")
    slurm = [{"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_MAX": "2"}]
    slurm += [{"SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_MAX": "2", "TULU_EVAL_SHARDS": "2"}]
    for variables in slurm:
        subprocess.run(["bash", script, *words], env={**environment, **variables}, check=True, capture_output=True)
    (run,) = (tmp_path / "out").glob("*/gsm8k/custom-*")
    merged = subprocess.run(["tulu-eval", "merge", str(run), "--json"], env=environment, check=True, capture_output=True)
    assert [row["n"] for row in json.loads(merged.stdout)["results"]] == [12, 12]
