"""Estimates a training run before it starts: memory by part on each device, and a range of time.

Operations per token: 2 per parameter forward, 4 backward. Bytes per parameter: 16 trained (weights, gradients, two moments in
float32), 4 or 2 frozen. The activations are an upper bound: 34 bytes per number of the hidden size, per layer and token of a
micro-batch (Korthikanti et al., arXiv 2205.05198, eq. 1, without attention scores, which PyTorch's fused attention does not
keep); with activation checkpointing one layer's, and the input of every layer in float32. The logits of some tokens are in
memory twice, in float32.
"""

from __future__ import annotations

import dataclasses

from tulu_eval.errors import PreflightError
from tulu_eval.models import config as configs
from tulu_eval.models.base import ModelFiles
from tulu_eval.models.model_files import DTYPE_BYTES
from tulu_eval.runs.estimate import measure_flops
from tulu_eval.training.data import PreferencePair
from tulu_eval.training.formulas import HEAD_ROWS, HEAD_ROWS_CUDA
from tulu_eval.training.job import Job
from tulu_eval.training.stages import PPORecipe, Recipe

TRAINED_BYTES = 16
ACTIVATION_NUMBERS = 17
"""Numbers of two bytes each that make the 34 bytes of eq. 1."""

ENGINE = "policy in vLLM, without its cache"


@dataclasses.dataclass(frozen=True, slots=True)
class TrainingCost:
    """The estimated cost of a run.

    Attributes:
        memory: Bytes on each device, by part.
        seconds_low: Seconds at half the measured rate of matrix products, with answers a quarter as long as allowed.
        seconds_high: Seconds at a tenth of that rate, with answers as long as allowed.
    """

    memory: dict[str, int]
    seconds_low: float
    seconds_high: float


def estimate(job: Job, device: str, world: int) -> TrainingCost:
    """Returns the cost of a job on ``world`` devices like the one here."""
    rate = measure_flops(device, job.sourced.recipe.compute_dtype) * world
    return TrainingCost(memory(job, world, device), flops(job, 0.25) / (0.5 * rate), flops(job, 1.0) / (0.1 * rate))


def memory(job: Job, world: int, device: str) -> dict[str, int]:
    """Returns the bytes on each of ``world`` devices, by part."""
    recipe, stage = job.sourced.recipe, job.sourced.stage
    longest = max(max(map(len, row)) if isinstance(row, PreferencePair) else len(row) for row in job.rows.rows)
    shapes = [job.model]
    if isinstance(recipe, PPORecipe):
        longest += recipe.max_new_tokens
        shapes.append(job.value_start)
    tokens = max(recipe.micro_tokens, (2 if stage in ("rm", "dpo") else 1) * longest)
    parts = _models(job, world)
    parts["activations of a micro-batch"] = tokens * sum(_kept(shape, recipe) for shape in shapes)
    if stage != "rm":
        part = HEAD_ROWS_CUDA if device == "cuda" else HEAD_ROWS
        parts["logits of a part of it"] = 2 * 4 * min(part, tokens) * configs.read(job.model.path).vocabulary
    return parts


def _models(job: Job, world: int) -> dict[str, int]:
    """Returns the bytes of the models on each device, by part."""
    recipe, stage, size = job.sourced.recipe, job.sourced.stage, job.model.parameters
    frozen = DTYPE_BYTES[recipe.compute_dtype]
    parts = {f"{'reward model' if stage == 'rm' else 'policy'}, trained": TRAINED_BYTES * size // world}
    if stage in ("dpo", "ppo"):
        parts["reference, frozen"] = frozen * size // world
    if isinstance(recipe, PPORecipe):
        parts["value model, trained"] = TRAINED_BYTES * job.value_start.parameters // world
        if job.scored_by:
            parts["reward model, frozen"] = frozen * job.scored_by.parameters // world
        if job.order.rollouts == "vllm":
            parts[ENGINE] = frozen * size
        elif world > 1:
            parts["policy, whole for rollouts"] = 4 * size
    return parts


def refuse_no_room(job: Job, device: str, world: int) -> None:
    """Refuses models that do not fit beside the engine of the rollouts; activations, an upper bound, do not count.

    Raises:
        PreflightError: If they do not fit.
    """
    if job.order.rollouts != "vllm":
        return
    parts = _models(job, world)
    engine = parts.pop(ENGINE)
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


def _kept(model: ModelFiles, recipe: Recipe) -> int:
    """Returns the bytes per token that a model keeps for its backward pass."""
    config = configs.read(model.path)
    layer = ACTIVATION_NUMBERS * DTYPE_BYTES[recipe.compute_dtype] * config.width
    return layer + 4 * config.width * config.layers if recipe.activation_checkpointing else layer * config.layers


def flops(job: Job, answer: float) -> float:
    """Returns the floating-point operations of a whole run.

    ``answer`` is the answers' length as a share of the longest allowed, 0 to 1.
    """
    recipe = job.sourced.recipe
    used = job.steps * job.rows_per_step / (recipe.epochs * len(job.rows.rows))
    size = job.model.parameters
    if isinstance(recipe, PPORecipe):
        rows = job.steps * job.rows_per_step * recipe.rollouts_per_prompt
        prompts = used * recipe.epochs * recipe.rollouts_per_prompt * job.tokens
        tokens = prompts + rows * answer * recipe.max_new_tokens
        # Rollout, old log-probabilities, reference: 2 each; old values and reward: 2 each of their own models' sizes.
        policy, value = 2 + 2 + 2 + 6 * recipe.inner_epochs, 2 + 6 * recipe.inner_epochs
        reward = 2 * job.scored_by.parameters if job.scored_by else 0
        return tokens * (policy * size + value * job.value_start.parameters + reward)
    return used * recipe.epochs * job.tokens * size * (8 if job.sourced.stage == "dpo" else 6)
