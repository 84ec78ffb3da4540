"""Our half of ``ppo_step.py``: tulu-eval's PPO on a task that is described in a folder. Prints one line of JSON.

python ppo_step_ours.py FOLDER [--on-vllm]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import psutil
import torch
import transformers
from ppo_step import LONGEST_PROMPT, Task, toys

from tulu_eval.backends.base import EngineSettings
from tulu_eval.models import model_files
from tulu_eval.training import loading, ppo
from tulu_eval.training.loop import LoopSettings, Trainer
from tulu_eval.training.networks import Policy
from tulu_eval.training.parallel import Ranks
from tulu_eval.training.rewards import Mixture
from tulu_eval.training.rollout import PolicyEngine, RolloutEngine
from tulu_eval.training.text import Tokens
from tulu_eval.training.vllm_rollout import VllmEngine


def start_rollouts(task: Task, folder: Path, policy: Policy, prompt: Tokens, on_vllm: bool) -> RolloutEngine:
    """Returns the engine of the rollouts."""
    if not on_vllm:
        return PolicyEngine(policy, [] if task.eos is None else [task.eos], task.batch)
    model, settings = model_files.from_path(folder / "policy"), EngineSettings(dtype="float32")
    assert task.eos is not None, "vLLM's rollouts need an end token"
    return VllmEngine(model, settings, task.eos, LONGEST_PROMPT + task.response, prompt, Ranks())


def processes() -> list[psutil.Process]:
    """Returns this process and its descendants."""
    own = psutil.Process()
    return [own, *own.children(recursive=True)]


def cpu_seconds() -> float:
    """Returns the processor time of :func:`processes`."""
    return float(sum(times.user + times.system for times in (one.cpu_times() for one in processes())))


def largest_sets() -> int:
    """Returns the sum of the largest resident sets of :func:`processes`, in bytes."""
    lines = [line for one in processes() for line in Path(f"/proc/{one.pid}/status").read_text().splitlines()]
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def train(folder: Path, on_vllm: bool) -> dict[str, Any]:
    """Trains with tulu-eval; returns what ``ppo_step_trl.py`` prints of TRL."""
    torch.set_num_threads(1)
    task = Task(**json.loads((folder / "task.json").read_text()))
    before = largest_sets()
    policy, reference = (loading.load_policy(folder / "policy", compute="float32", trained=one) for one in (True, False))
    value = loading.load_scorer(folder / "reward_model", compute="float32", trained=True)
    if task.target is not None:
        reward = toys.paid(toys.count_reward(task.weight))
    else:
        reward = Mixture.of_model(loading.load_scorer(folder / "reward_model", compute="float32", trained=False))
    prompts = [toys.tokens(prompt) for prompt in json.loads((folder / "prompts.json").read_text())]
    recipe = toys.recipe(
        "ppo", seed=task.seed, rollout_batch=task.batch, batch=task.batch, micro_tokens=1 << 14, max_new_tokens=task.response,
        temperature=1.0, top_k=0, kl_coef=task.kl_coef, learning_rate=task.learning_rate, adam_b2=0.95, adam_eps=1e-8,
        final_learning_rate=task.learning_rate, warmup=0.0, no_eos_reward=None, gamma=1.0, gae_lambda=0.95, value_coef=0.1,
        epochs=task.updates * task.batch // len(prompts), kl_ceiling=1e9, inner_epochs=1,
    )  # fmt: skip
    updates: list[dict[str, float]] = []
    spent = cpu_seconds()

    def report(_step: int, _steps: int, numbers: dict[str, float]) -> None:
        nonlocal spent
        began, spent = spent, cpu_seconds()
        parts = {key: value for key, value in numbers.items() if key.startswith("seconds") or key == "mfu"}
        updates.append({"cpu": spent - began, **{key: numbers[key] for key in ("tokens", "score", "kl")}, **parts})

    settings = LoopSettings(folder / "ours", {}, 10**9, report=report)
    settings.folder.mkdir(exist_ok=True)
    four = ppo.Models(policy, reference, value, reward)
    trainer = Trainer(recipe, Ranks(), {"policy": policy, "value": value}, len(prompts), task.batch, 1, settings)
    engine = start_rollouts(task, folder, policy, prompts[0], on_vllm)
    try:
        ppo.train(trainer, four, engine, prompts, recipe)
        peak = largest_sets()
    finally:
        engine.close()
    versions = f"tulu-eval, torch {torch.__version__}, transformers {transformers.__version__}"
    return {"updates": updates, "peak": peak, "before": before, "versions": versions}


if __name__ == "__main__":
    print(json.dumps(train(Path(sys.argv[1]), "--on-vllm" in sys.argv)))
