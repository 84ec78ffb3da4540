"""``tulu-eval train`` as a user types it: from JSON-lines to folders that transformers loads, and one line for each mistake."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from tulu_eval.training import job as job_module
from tulu_eval.training.job import TrainingOrder, make_job
from tulu_eval.training.sizes import cost

Train = Callable[..., Result]
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def test_every_stage_from_json_lines(train: Train, llama3_like: Path, files: dict[str, Path], tmp_path: Path) -> None:
    small = ["--set", "batch=8", "--set", "micro_tokens=40"]
    sft = train("sft", "-m", llama3_like, "--data", files["sft"], "-o", tmp_path / "sft", *small)
    assert sft.exit_code == 0, sft.output
    assert sft.stdout.split() == [str(tmp_path / "sft" / "policy")]
    assert "step 3/3  loss " in sft.stderr
    assert re.search(r" tokens/s  MFU \d+\.\d %  \d+\.\d\d s \((policy|optimiser) ", sft.stderr)
    start = tmp_path / "sft" / "policy"

    rm = train("rm", "-m", start, "--data", files["pairs"], "-o", tmp_path / "rm", *small)
    assert rm.exit_code == 0, rm.output
    dpo = train("dpo", "-m", start, "--data", files["pairs"], "-o", tmp_path / "dpo", *small)
    assert dpo.exit_code == 0, dpo.output
    first = json.loads((tmp_path / "dpo" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["loss"] == pytest.approx(0.693147, abs=1e-6)

    tiny = [*small, "--set", "rollout_batch=16", "--set", "max_new_tokens=5", "--set", "warmup=0"]
    reward = tmp_path / "rm" / "reward_model"
    done = train(
        "ppo", "-m", start, "--reward-model", reward, "--data", files["prompts"], "-o", tmp_path / "ppo", *tiny, "--json"
    )
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["finished"]
    policy, value = (load_file(Path(folder) / "model.safetensors") for folder in report["models"])
    before = load_file(start / "model.safetensors")
    assert set(policy) == set(before)
    assert any(not torch.equal(policy[name], before[name]) for name in policy)
    assert "score.weight" in value
    AutoModelForCausalLM.from_pretrained(report["models"][0])
    AutoModelForSequenceClassification.from_pretrained(report["models"][1])
    manifest = json.loads((tmp_path / "ppo" / "manifest.json").read_text())
    assert manifest["settings"]["kl_coef"] == {"value": 0.05, "source": "CMD; CARD"}
    numbers = json.loads((tmp_path / "ppo" / "metrics.jsonl").read_text().splitlines()[0])
    assert {
        "score",
        "kl",
        "eos_rate",
        "length",
        "entropy",
        "clip_fraction",
        "explained_variance",
        "policy_gradient_norm",
    } <= set(numbers)
    assert numbers["approximate_kl"] == pytest.approx(0.0, abs=1e-9)
    assert numbers["clip_fraction"] == 0.0

    again = train("ppo", "-m", start, "--reward-model", reward, "--data", files["prompts"], "-o", tmp_path / "ppo", *tiny)
    assert again.exit_code == 0
    assert "step" not in again.stderr


def test_dry_run_says_what_will_be_done(train: Train, llama3_like: Path, files: dict[str, Path], tmp_path: Path) -> None:
    words = ["-m", llama3_like, "--data", files["pairs"], "-o", tmp_path / "run", "--dry-run"]
    text = train("rm", *words)
    assert text.exit_code == 0, text.output
    assert re.search(r"^  warmup +0\.03 ", text.stdout, re.M)
    assert "CMD: the published command" in text.stdout
    assert "24 pairs kept" in text.stdout
    assert "dropped: 1 equal sides, 1 over 512 tokens" in text.stdout
    assert "reward model, trained" in text.stdout
    assert "time: between" in text.stdout
    data = json.loads(train("rm", *words, "--json").stdout)
    assert (data["rows_kept"], data["rows_dropped"]) == (24, {"equal sides": 1, "over 512 tokens": 1})
    assert (data["steps"], data["updates"]) == (1, 1)
    assert not (tmp_path / "run").exists()


def test_memory_and_arithmetic_of_the_published_run(
    llama3_like: Path, files: dict[str, Path], suite: Any, toys: Any, tmp_path: Path
) -> None:
    toys.scorer(600).model.save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(llama3_like / name, tmp_path)
    order = TrainingOrder(
        "ppo", "tiny", str(llama3_like), str(tmp_path), (files["prompts"],), changes=("rollout_batch=16", "max_length=200")
    )
    job = make_job(order, suite)
    policy, reward = (dataclasses.replace(files, parameters=10**9) for files in (job.model, job.reward_model) if files)
    billions = dataclasses.replace(job, model=policy, reward_model=reward)
    parts = cost.memory(billions, 1, "cpu")
    assert parts["policy, trained"] == 12e9
    assert parts["value model, trained"] == pytest.approx(12e9, rel=1e-4)  # less an output layer that so large a model has
    assert parts["reference, frozen"] == parts["reward model, frozen"] == 4e9
    assert parts["gradients"] == pytest.approx(8e9, rel=1e-4)
    assert cost.memory(billions, 4, "cpu")["policy, trained"] == 3e9
    assert (job.steps, job.updates_per_step) == (1, 1)
    assert (
        make_job(dataclasses.replace(order, changes=(*order.changes, "inner_epochs=4", "batch=8")), suite).updates_per_step == 8
    )
    # E1 of the facts: 22 N per token, with one forward pass more than the interleaved preset's 18 N.
    tokens = job.steps * job.rows_per_step / 24 * job.rows.rows[0].ids.size * 24
    answers = job.steps * job.rows_per_step * 48
    assert cost.flops(billions, 1.0) == pytest.approx(22e9 * (tokens + answers), rel=0.1)


@pytest.fixture(scope="session")
def suite() -> Any:
    from tulu_eval.registry import load_suite

    return load_suite()


@pytest.mark.parametrize("stage", ["rm", "dpo", "ppo"])
def test_any_split_of_the_preference_data(
    stage: Any,
    toys: Any,
    llama3_like: Path,
    files: dict[str, Path],
    suite: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    asked = []

    def files_of_split(dataset: str, split: str) -> list[Path]:
        asked.append((dataset, split))
        return [files["pairs"]]

    monkeypatch.setattr(job_module, "files_of_split", files_of_split)
    changes = ("max_length=200", "batch=8", "dataset=allenai/tulu-2.5-preference-data")
    more = (
        {"reward_model": str(llama3_like), "changes": (*changes, "rollout_batch=8", "max_new_tokens=4")}
        if stage == "ppo"
        else {}
    )
    order = TrainingOrder(stage, "easylm", str(llama3_like), split="hh_rlhf_60k", **{"changes": changes, **more})
    assert len(make_job(order, suite).rows.rows) >= 24
    assert asked == [("allenai/tulu-2.5-preference-data", "hh_rlhf_60k")]


def test_a_term_signal_saves_and_exits_with_0(programs: Any, llama3_like: Path, files: dict[str, Path], tmp_path: Path) -> None:
    words = ["-m", "tulu_eval", "train", "sft", "-r", "tiny", "-m", llama3_like, "--data", files["sft"], "-o", tmp_path]
    running = programs.start(sys.executable, *words, "--device", "cpu", "--set", "epochs=2000")
    while not (tmp_path / "metrics.jsonl").exists() and running.poll() is None:
        time.sleep(0.05)
    running.send_signal(signal.SIGTERM)
    _, errors = running.communicate()
    assert running.returncode == 0, errors
    assert "give the same command again to go on" in errors
    steps = len((tmp_path / "metrics.jsonl").read_text().splitlines())
    assert (tmp_path / "checkpoints" / f"step-{steps:08d}").is_dir()
    assert not (tmp_path / "policy").exists()


def test_the_same_command_under_torchrun(
    train: Train, programs: Any, llama3_like: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    words = ["train", "sft", "-r", "tiny", "-m", llama3_like, "--data", files["sft"], "--device", "cpu"]
    assert train("sft", "-m", llama3_like, "--data", files["sft"], "-o", tmp_path / "1", "-q").exit_code == 0
    launcher = [*TORCHRUN, "-m", "tulu_eval"]
    both = programs.start(*launcher, *words, "-o", tmp_path / "2")
    out, errors = both.communicate()
    assert both.returncode == 0, errors
    assert out.split() == [str(tmp_path / "2" / "policy")]
    alone, shared = (load_file(tmp_path / n / "policy" / "model.safetensors") for n in ("1", "2"))
    for name in alone:
        torch.testing.assert_close(shared[name], alone[name], atol=1e-5, rtol=0)


def test_two_hosts_train_as_one(
    train: Train, programs: Any, hosts: tuple[str, str], llama3_like: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    """torchrun on each of two hosts, which meet at the first one's address and share a folder."""
    words = ["sft", "-m", llama3_like, "--data", files["sft"], "--set", "batch=8"]
    assert train(*words, "-o", tmp_path / "1", "-q").exit_code == 0
    launcher = (sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1")
    meeting = ("--rdzv-backend", "c10d", "--rdzv-endpoint", "10.77.0.1:29514", "--rdzv-id", "test")
    both = []
    for place, name in enumerate(hosts):
        # Both have this machine's name, so each is told its address, and the first one that it is the meeting's host.
        own = ("--local-addr", f"10.77.0.{place + 1}", "--rdzv-conf", f"is_host={place == 0}")
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": f"v{name}"}
        command = (*launcher, *meeting, *own, "-m", "tulu_eval", "train", *words, "-r", "tiny", "--device", "cpu")
        both.append(programs.start("ip", "netns", "exec", name, *command, "-o", tmp_path / "2", env=environment))
    for child in both:
        _, errors = child.communicate()
        assert child.returncode == 0, errors
    alone, shared = (numbers(tmp_path / n) for n in ("1", "2"))
    assert len(alone) == len(shared) == 3
    for one, other in zip(alone, shared, strict=True):
        assert other == pytest.approx(one, rel=1e-5)
    manifest = json.loads((tmp_path / "2" / "manifest.json").read_text())
    assert manifest["ranks"] == 2
    before, after = (load_file(tmp_path / n / "policy" / "model.safetensors") for n in ("1", "2"))
    largest = max(float((after[name] - before[name]).abs().max()) for name in before)
    print(f"largest difference of a weight {largest:.1e}")
    assert largest <= 1e-5


def numbers(run: Path) -> list[dict[str, float]]:
    """Returns what each step of SFT says of the model."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: line[name] for name in ("loss", "policy_gradient_norm", "learning_rate")} for line in lines]


OUT_OF_MEMORY = """
import os, sys, torch
from tulu_eval.training.networks import Policy
right, calls = Policy.forward, []
def forward(self, batch, temperature=1.0):
    found = right(self, batch, temperature)
    calls.append(1)
    if os.environ["RANK"] == "1" and len(batch.ids) > 2 and len(calls) == 3:
        raise torch.OutOfMemoryError("CUDA out of memory")
    return found
Policy.forward = forward
from tulu_eval.cli import main
main()
"""


def test_memory_that_runs_out_on_one_of_two_ranks(
    train: Train, programs: Any, llama3_like: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    """Restarted by torchrun, both resume with half the micro-batch, and get the same weights as a run with enough memory."""
    words = ["-m", llama3_like, "--data", files["sft"], "--set", "batch=8", "--save-every", "1"]
    assert train("sft", *words, "-o", tmp_path / "1", "-q").exit_code == 0
    (tmp_path / "run.py").write_text(OUT_OF_MEMORY)
    launcher = [*TORCHRUN, "--max-restarts", "1", tmp_path / "run.py"]
    both = programs.start(*launcher, "train", "sft", "-r", "tiny", "--device", "cpu", *words, "-o", tmp_path / "2")
    _, errors = both.communicate()
    assert both.returncode == 0, errors
    assert "rank 1 ran out of memory; the same command" in errors
    assert f"with micro_tokens = {(tmp_path / '2' / 'micro-tokens').read_text()}" in errors
    alone, shared = (load_file(tmp_path / n / "policy" / "model.safetensors") for n in ("1", "2"))
    for name in alone:
        torch.testing.assert_close(shared[name], alone[name], atol=1e-5, rtol=0)
