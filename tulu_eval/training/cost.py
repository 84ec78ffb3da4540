"""What a training run costs, before it is paid: memory by part on each device, and a range of time.

FLOPs a token: 2 a parameter forward, 4 backward. Bytes a parameter: 16 trained (float32 weights, gradients and two moments),
4 or 2 frozen. Activations are an upper bound of what one micro-batch leaves for the backward pass: 34 bytes a hidden-sized
number, layer and token (Korthikanti et al., arXiv 2205.05198, eq. 1, attention scores left out as PyTorch's fused attention
does); with activation checkpointing that of one layer, and each layer's input in float32. Logits are there in float32 twice,
for a part of the tokens.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from tulu_eval.errors import PreflightError
from tulu_eval.models import config as configs
from tulu_eval.runs.estimate import measure_rates
from tulu_eval.training.formulas import HEAD_ROWS, HEAD_ROWS_CUDA
from tulu_eval.training.job import Job
from tulu_eval.training.stages import PPORecipe, Recipe, Sourced

TRAINED_BYTES = 16
ACTIVATION_NUMBERS = 17
"""Numbers of two bytes that make eq. 1's 34 bytes."""

PASSING = ("of a micro-batch", "of a part of it")
"""How the names of what is there for a micro-batch only end."""


@dataclasses.dataclass(frozen=True, slots=True)
class TrainingCost:
    """What a run costs.

    Attributes:
        memory: Bytes on each device, by part.
        seconds_low: At half the device's rate of matrix products, answers a quarter of the longest.
        seconds_high: At a tenth of it, answers as long as may be.
    """

    memory: dict[str, int]
    seconds_low: float
    seconds_high: float


def estimate(job: Job, device: str, world: int) -> TrainingCost:
    """Returns what a job costs on so many devices of this machine's kind."""
    recipe = job.sourced.recipe
    rate = measure_rates(device, recipe.compute_dtype).flops * world
    return TrainingCost(memory(job, world, device), flops(job, 0.25) / (0.5 * rate), flops(job, 1.0) / (0.1 * rate))


def memory(job: Job, world: int, device: str) -> dict[str, int]:
    """Returns the bytes on each of ``world`` devices, by part."""
    recipe, size = job.sourced.recipe, job.model.parameters
    computing = 2 if recipe.compute_dtype == "bfloat16" else 4
    longest = max(max(map(len, row)) if isinstance(row, tuple) else len(row) for row in job.rows.rows)
    parts = {"policy, trained": TRAINED_BYTES * size // world}
    if job.sourced.stage == "rm":
        parts = {"reward model, trained": TRAINED_BYTES * size // world}
    if job.sourced.stage in ("dpo", "ppo"):
        parts["reference, frozen"] = computing * size // world
    shapes = [_shape(job.model)]
    if isinstance(recipe, PPORecipe) and job.reward_model:
        longest += recipe.max_new_tokens
        parts["value model, trained"] = TRAINED_BYTES * job.reward_model.parameters // world
        parts["reward model, frozen"] = computing * job.reward_model.parameters // world
        shapes.append(_shape(job.reward_model))
        if job.order.rollouts == "vllm":
            parts["policy in vLLM, without its cache"] = computing * size
        elif world > 1:
            parts["policy, whole for rollouts"] = 4 * size
    sides = 2 if job.sourced.stage in ("rm", "dpo") else 1
    tokens = max(recipe.micro_tokens, sides * longest)
    part = HEAD_ROWS_CUDA if device == "cuda" else HEAD_ROWS
    parts["activations of a micro-batch"] = tokens * sum(_kept(shape, computing, recipe) for shape in shapes)
    if job.sourced.stage != "rm":
        parts["logits of a part of it"] = 2 * 4 * min(part, tokens) * shapes[0]["vocab_size"]
    return parts


def refuse_no_room(job: Job, device: str, world: int) -> None:
    """Says that the models do not fit beside the engine of the rollouts; activations, an upper bound, are not counted.

    Raises:
        PreflightError: They do not.
    """
    if job.order.rollouts != "vllm":
        return
    parts = {name: size for name, size in memory(job, world, device).items() if not name.endswith(PASSING)}
    engine = parts.pop("policy in vLLM, without its cache")
    ours = sum(parts.values())
    if device == "cuda":
        import torch

        total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
        engine, whose = int(job.order.rollout_memory * total), "a device"
    else:
        import psutil

        total, whose = psutil.virtual_memory().available // world, "this machine, for each rank,"
    if ours + engine > total:
        raise PreflightError(
            f"the models need {ours / 2**30:.1f} GiB and vLLM {engine / 2**30:.1f}, and {whose} has {total / 2**30:.1f}; "
            "use more devices, a smaller --rollout-memory, or --rollouts policy"
        )


def _kept(shape: dict[str, int], computing: int, recipe: Recipe) -> int:
    """Returns the bytes a token that a model keeps for its backward pass."""
    layer = ACTIVATION_NUMBERS * computing * shape["hidden_size"]
    if recipe.activation_checkpointing:
        return layer + 4 * shape["hidden_size"] * shape["num_hidden_layers"]
    return layer * shape["num_hidden_layers"]


def flops(job: Job, answer: float) -> float:
    """Returns the floating-point operations of a whole run, answers being so large a part of the longest."""
    recipe = job.sourced.recipe
    used = job.steps * job.rows_per_step / (recipe.epochs * len(job.rows.rows))
    size = job.model.parameters
    if isinstance(recipe, PPORecipe) and job.reward_model:
        rows = job.steps * job.rows_per_step * recipe.rollouts_per_prompt
        prompts = used * recipe.epochs * recipe.rollouts_per_prompt * _tokens(job)
        tokens = prompts + rows * answer * recipe.max_new_tokens
        # Rollout, old log-probabilities, reference: 2 each. Reward, old values: 2 each of the reward model's size.
        policy, other = 2 + 2 + 2 + 6 * recipe.inner_epochs, 2 + 2 + 6 * recipe.inner_epochs
        return tokens * (policy * size + other * job.reward_model.parameters)
    return used * recipe.epochs * _tokens(job) * size * (8 if job.sourced.stage == "dpo" else 6)


def _tokens(job: Job) -> int:
    return sum(sum(map(len, row)) if isinstance(row, tuple) else len(row) for row in job.rows.rows)


def _shape(model: Any) -> dict[str, int]:
    config = configs.read(model.path)
    return {"hidden_size": config.width, "num_hidden_layers": config.layers, "vocab_size": config.vocabulary}


def as_json(job: Job, device: str, world: int) -> dict[str, Any]:
    """Returns a job as plain data: recipe with sources, rows kept and dropped, memory, time."""
    cost = estimate(job, device, world)
    recipe = dataclasses.asdict(job.sourced.recipe)
    return {
        "stage": job.sourced.stage,
        "recipe": job.sourced.name,
        "about": job.sourced.about,
        "settings": {key: {"value": value, "source": job.sourced.sources[key]} for key, value in recipe.items()},
        "sources": job.sourced.legend,
        "model": job.model.name,
        "reward_model": job.reward_model.name if job.reward_model else None,
        "rows_kept": len(job.rows.rows),
        "rows_dropped": job.rows.dropped,
        "tokens": _tokens(job),
        "steps": job.steps,
        "updates": job.steps * job.updates_per_step,
        "ranks": world,
        "memory_bytes": cost.memory,
        "seconds_at_least": cost.seconds_low,
        "seconds_at_most": cost.seconds_high,
        "folder": str(job.folder),
    }


def recipe_as_text(sourced: Sourced) -> str:
    """Returns a recipe for people, every value with its source."""
    recipe = dataclasses.asdict(sourced.recipe)
    values = {key: "off" if value is None else json.dumps(value) for key, value in recipe.items()}
    width, widest = max(map(len, values)), max(map(len, values.values()))
    return "\n".join(
        [
            f"{sourced.stage}, recipe {sourced.name}: {sourced.about}",
            *(f"  {key:<{width}}  {value:<{widest}}  {sourced.sources[key]}" for key, value in values.items()),
            *(f"  {name}: {meaning}" for name, meaning in sourced.legend.items()),
        ]
    )


def as_text(job: Job, device: str, world: int) -> str:
    """Returns the rest of a job for people: models, rows, memory, time."""
    data = as_json(job, device, world)
    noun = {"sft": "conversations", "rm": "pairs", "dpo": "pairs", "ppo": "prompts"}[data["stage"]]
    dropped = ", ".join(f"{n} {reason}" for reason, n in data["rows_dropped"].items()) or "none"
    total = sum(data["memory_bytes"].values())
    low, high = _duration(data["seconds_at_least"]), _duration(data["seconds_at_most"])
    return "\n".join(
        [
            f"model: {data['model']}" + (f"; reward model: {data['reward_model']}" if data["reward_model"] else ""),
            f"data: {data['rows_kept']:,} {noun} kept, {data['tokens']:,} tokens; dropped: {dropped}",
            f"steps: {data['steps']:,}, updates: {data['updates']:,}",
            f"memory on each of {data['ranks']} device(s), about {total / 2**30:,.2f} GiB:",
            *(f"  {size / 2**30:10,.2f} GiB  {part}" for part, size in data["memory_bytes"].items()),
            f"time: between {low} and {high} on devices like the one here",
            f"folder: {data['folder']}",
        ]
    )


def _duration(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:,.1f} s"
