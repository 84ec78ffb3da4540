"""Estimates a training run before it starts: memory by part on each device, and a range of time.

Operations per token: 2 per parameter forward, 4 backward. The memory is that of the moment that needs most: what is always
there (weights and moments of the trained models, weights of the frozen ones, the engine of the rollouts), and what rollouts, a
training pass or the optimizer's step need beside it (:mod:`~tulu_eval.training.sizes.memory`). That vLLM sleeps on a GPU while
the models learn is not counted on: nobody has measured what that frees.
"""

from __future__ import annotations

import dataclasses

from tulu_eval.errors import PreflightError
from tulu_eval.models.model_files import DTYPE_BYTES
from tulu_eval.runs.rates import NOTHING_DONE, machine_rates
from tulu_eval.training.at_once import BUFFER_BYTES, HEAD_ROWS, HEAD_ROWS_CUDA, ROLLOUT_ROWS
from tulu_eval.training.job import Job
from tulu_eval.training.rows.data import PreferencePair
from tulu_eval.training.sizes.memory import (
    ACTIVATIONS,
    BUFFERS,
    FLOAT32,
    GRADIENTS,
    Pass,
    Shape,
    activations,
    gradients,
    peak,
    states,
)
from tulu_eval.training.stages import PPORecipe

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
    rate = machine_rates(device, job.sourced.recipe.compute_dtype, NOTHING_DONE).flops * world
    return TrainingCost(memory(job, world, device), flops(job, 0.25) / (0.5 * rate), flops(job, 1.0) / (0.1 * rate))


def memory(job: Job, world: int, device: str) -> dict[str, int]:
    """Returns the bytes on each of ``world`` devices, by part, at the moment that needs most."""
    step = {GRADIENTS: sum(gradients(shape, world) for shape in trained(job))}
    if device == "cuda" and world == 1 and job.sourced.recipe.compute_dtype == "float32":
        # PyTorch's optimizer takes the roots of all second moments of an unsharded model at once (torch 2.13, optim/adam.py).
        step["roots in the optimizer"] = FLOAT32 * max(shape.parameters for shape in trained(job))
    else:
        step[BUFFERS] = (
            2 * FLOAT32 * max(max(shape.embedding, shape.width * shape.feed_forward) for shape in trained(job)) // world
        )
    moments = [_training(job, world, device), _rollouts(job, world, device), step]
    return _models(job, world) | max(moments, key=lambda parts: sum(parts.values()))


def trained(job: Job) -> list[Shape]:
    """Returns the shapes of the trained models; the policy, or the only one, comes first."""
    shapes = [Shape.of(job.model, scorer=job.sourced.stage == "rm")]
    return shapes + ([Shape.of(job.value_start, scorer=True)] if job.sourced.stage == "ppo" else [])


def _training(job: Job, world: int, device: str) -> dict[str, int]:
    """Returns what a training pass needs.

    In PPO the policy goes backward first. Where a rank's part of a mini-batch is one micro-batch, the value model has been
    through its forward pass by then (:meth:`~tulu_eval.training.ppo.Learner.targets_and_first_losses`), without a gradient.
    """
    recipe = job.sourced.recipe
    longest = max(2 * max(map(len, row)) if isinstance(row, PreferencePair) else len(row) for row in job.rows.rows)
    if isinstance(recipe, PPORecipe):
        longest += recipe.max_new_tokens
    own_batch = -(-recipe.batch // world) * longest
    one = Pass(
        number=DTYPE_BYTES[recipe.compute_dtype],
        tokens=max(longest, min(recipe.micro_tokens, own_batch)),
        said=HEAD_ROWS_CUDA if device == "cuda" else HEAD_ROWS,
        checkpointing=recipe.activation_checkpointing,
        world=world,
        accumulated=own_batch > recipe.micro_tokens,
        flash=device == "cuda" and recipe.compute_dtype == "bfloat16",
    )
    shapes = trained(job)
    moments = []
    for place, shape in enumerate(shapes):
        parts, earlier, later = peak(shape, one), shapes[:place], shapes[place + 1 :]
        parts[GRADIENTS] += sum(gradients(other, world) for other in (*earlier, *(later if one.accumulated else ())))
        if not one.accumulated:
            parts[ACTIVATIONS] += sum(activations(other, one) for other in later)
        moments.append(parts)
    return max(moments, key=lambda parts: sum(parts.values()))


def _rollouts(job: Job, world: int, device: str) -> dict[str, int]:
    """Returns what rollouts by the policy itself need, or vLLM's new weights on their way."""
    recipe = job.sourced.recipe
    if not isinstance(recipe, PPORecipe):
        return {}
    shape, number = Shape.of(job.model, scorer=False), DTYPE_BYTES[recipe.compute_dtype]
    if job.order.rollouts == "vllm":
        # Here a part of the largest tensor in the engine's dtype, and all of it, once more beside the buffer for a GPU; there
        # what came of a layer, or of the buffer, and the layer.
        largest = number * max(shape.embedding, shape.width * shape.feed_forward)
        layer = number * max(shape.embedding, shape.layer)
        packed = largest + 2 * max(BUFFER_BYTES, largest) if device == "cuda" else layer
        return {"weights on their way to vLLM": largest // world + largest + packed + layer}
    parts = {"policy, whole for rollouts": number * shape.parameters} if world > 1 or number != FLOAT32 else {}
    longest = max(len(row) for row in job.rows.rows) + recipe.max_new_tokens
    rows = min(ROLLOUT_ROWS, -(-recipe.rollout_batch * recipe.rollouts_per_prompt // world))
    return parts | {"keys and values of the rollouts": 2 * rows * longest * shape.keys * shape.layers * number}


def _models(job: Job, world: int) -> dict[str, int]:
    """Returns the bytes on each device that are always there, by part."""
    recipe, stage, size = job.sourced.recipe, job.sourced.stage, job.model.parameters
    frozen = DTYPE_BYTES[recipe.compute_dtype]
    names = ("reward model" if stage == "rm" else "policy", "value model")
    parts = {f"{name}, trained": states(shape, world) for name, shape in zip(names, trained(job), strict=False)}
    if stage in ("dpo", "ppo"):
        parts["reference, frozen"] = frozen * size // world
    if isinstance(recipe, PPORecipe):
        if job.scored_by:
            parts["reward model, frozen"] = frozen * job.scored_by.parameters // world
        if job.order.rollouts == "vllm":
            parts[ENGINE] = frozen * size
    return parts


def refuse_no_room(job: Job, device: str, world: int) -> None:
    """Refuses models that do not fit beside the engine of the rollouts; what passes need for a time does not count.

    Raises:
        PreflightError: If they do not fit.
    """
    if job.order.rollouts != "vllm":
        return
    parts = _models(job, world)
    engine = parts.pop(ENGINE)
    ours = sum(parts.values()) + sum(gradients(shape, world) for shape in trained(job))
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
