"""The examples for Slurm as a user submits them, to a real Slurm of one node where it is installed."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from click.testing import CliRunner
from conftest import beside
from safetensors.torch import load_file

import tulu_eval
from tulu_eval.cli import cli

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SMALL = ("--cpus-per-task=1", "--mem=1G")
STEPS = 96


@pytest.fixture(scope="module")
def slurm(program_group: Any) -> Iterator[Any]:
    """A Slurm that runs; see ``slurm.py``."""
    module = beside("slurm")
    if reason := module.missing():
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    with program_group() as programs, module.Slurm(folder, programs, module.environment_of_jobs(folder)) as cluster:
        yield cluster
    shutil.rmtree(folder)


@pytest.fixture
def words(llama3_like: Path, rows: Path, tmp_path: Path) -> list[str]:
    """What the scripts pass to ``tulu-eval run``."""
    out = ["--output", str(tmp_path / "out"), "--dtype", "float32", "--quiet"]
    return ["gsm8k", "--model", str(llama3_like), "--protocol", "custom", "--data", str(rows), "--device", "cpu", *out]


def answers(folder: Path) -> dict[str, tuple[str, ...]]:
    """Returns the texts of a whole run by key."""
    run = tulu_eval.load_run(folder)
    assert [row.n for row in run.results] == [12, 12]
    return {one.completion.key: (one.item, one.completion.text, one.completion.finish_reason) for one in run.samples()}


def alone(words: list[str], folder: Path) -> dict[str, tuple[str, ...]]:
    """Returns the same of a run without a scheduler."""
    done = CliRunner().invoke(cli, ["run", *words, "--output", str(folder)])
    assert done.exit_code == 0, done.output
    return answers(only_run(folder))


def only_run(results: Path) -> Path:
    (run,) = results.glob("*/gsm8k/custom-*")
    return run


def test_an_array_and_its_merge_make_the_run_of_one(slurm: Any, words: list[str], tmp_path: Path) -> None:
    array = slurm.submit("--array=1-2", *SMALL, "-o", tmp_path / "%a.log", EXAMPLES / "slurm_array.sh", *words)
    runs = tmp_path / "out" / "*" / "gsm8k" / "custom-*"
    merge = slurm.submit(f"--dependency=afterok:{array}", "-o", tmp_path / "merge.log", "--wrap", f"tulu-eval merge {runs}")
    (about,) = slurm.ended(merge)
    assert about["JobState"] == "COMPLETED", [path.read_text() for path in sorted(tmp_path.glob("*.log"))]
    assert answers(only_run(tmp_path / "out")) == alone(words, tmp_path / "alone")


def test_ray_on_the_nodes_of_a_job_makes_the_run_of_one(slurm: Any, words: list[str], tmp_path: Path) -> None:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed (pip install ray)")
    own = ("--gpus-per-node=1", *SMALL, "-o", tmp_path / "log")
    job = slurm.submit(*own, EXAMPLES / "slurm_ray.sh", *words)
    (about,) = slurm.ended(job)
    assert about["JobState"] == "COMPLETED", (tmp_path / "log").read_text()
    assert answers(only_run(tmp_path / "out")) == alone(words, tmp_path / "alone")
    assert not Path(f"/tmp/ray-{job}").exists()


def test_training_goes_on_after_a_lost_rank_and_after_the_signal_before_the_limit(
    slurm: Any, llama3_like: Path, tmp_path: Path
) -> None:
    turns = [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2."}]
    (tmp_path / "rows.jsonl").write_text(f"{json.dumps({'messages': turns})}\n" * STEPS)
    words = ["sft", "-r", "tiny", "-m", str(llama3_like), "--data", str(tmp_path / "rows.jsonl"), "--device", "cpu"]
    words += ["--set", "batch=1", "--set", "epochs=1", "--save-every", "5"]
    run, log = tmp_path / "run", tmp_path / "log"
    own = ("--gpus-per-node=1", *SMALL, "-o", log)
    job = slurm.submit(*own, EXAMPLES / "slurm_train.sh", *words, "--output", run)

    until(lambda: steps(run) >= 5, log)
    (rank,) = ranks(slurm, job)
    rank.kill()
    before = steps(run)
    until(lambda: steps(run) > before + 5, log)
    (rank,) = ranks(slurm, job)
    rank.suspend()  # so that the signal comes before the last step
    slurm.call("scancel", "--batch", "--signal=USR1", job)  # what --signal=B:USR1@600 has Slurm do
    until(lambda: pending(rank, signal.SIGUSR1), log)
    rank.resume()
    (about,) = slurm.ended(job)
    said = log.read_text()
    assert about["JobState"] == "COMPLETED", said
    assert about["Restarts"] == "1"
    assert said.count('"finished": false') == said.count('"finished": true') == 1

    done = CliRunner().invoke(cli, ["train", *words, "--output", str(tmp_path / "alone"), "-q"])
    assert done.exit_code == 0, done.output
    there, here = (load_file(folder / "policy" / "model.safetensors") for folder in (run, tmp_path / "alone"))
    assert set(there) == set(here)
    assert all(torch.equal(there[name], here[name]) for name in here)


def until(there: Callable[[], bool], log: Path) -> None:
    last = time.monotonic() + 240.0
    while not there():
        assert time.monotonic() < last, log.read_text()
        time.sleep(0.02)


def steps(run: Path) -> int:
    """Returns how many steps a run has written, those of before a restart included."""
    metrics = run / "metrics.jsonl"
    return metrics.read_text().count("\n") if metrics.exists() else 0


def pending(process: psutil.Process, number: int) -> bool:
    """Whether a signal waits for a process."""
    waiting = re.search(r"^ShdPnd:\s*(\w+)$", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)
    return bool(waiting and int(waiting[1], 16) >> (number - 1) & 1)


def ranks(slurm: Any, job: str) -> list[psutil.Process]:
    """Returns the ranks of a job on this machine, by what Slurm says of its processes."""
    listed = slurm.call("scontrol", "listpids", job).splitlines()[1:]
    processes = [psutil.Process(int(line.split()[0])) for line in listed]
    return [process for process in processes if "RANK" in process.environ()]
