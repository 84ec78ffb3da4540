"""What ``reproduce --recipe card-8b`` would do: the whole way to allenai/llama-3-tulu-v2.5-8b-uf-mean-70b-uf-rm, on H200 nodes.

Everything follows from the recipes ``easylm`` of the stages, the shapes of Llama 3, and the sizes of the data sets; nothing is
downloaded. Memory and operations come from the functions behind ``train --dry-run`` (:mod:`~tulu_eval.training.sizes.cost`).
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import tempfile
from pathlib import Path

from tulu_eval.errors import UserError
from tulu_eval.reproduction.plan_sums import free_bytes
from tulu_eval.reproduction.planned import DONE, TO_DO, Figure, PlannedMemory, PlannedStage, ReproductionPlan, together
from tulu_eval.runs.estimate import H200_FLOPS, H200_GIB, NODE, SHARE
from tulu_eval.training import recipes
from tulu_eval.training.job import Job, TrainingOrder
from tulu_eval.training.parallel import Ranks
from tulu_eval.training.saving import checkpoint, export
from tulu_eval.training.sizes import cost, sizing
from tulu_eval.training.stages import Stage

MODEL = "llama-3-tulu-v2.5-8b-uf-mean-70b-uf-rm"
NAME = "card-8b"

SEED = 42
"""The one of the recipes ``easylm``."""

DEVICES = (8, 16, 32, 64)
"""Numbers of devices that are tried, unless ``WORLD_SIZE`` says one."""

BYTES_PER_TOKEN = 4
"""Assumed, for English text and Llama 3's tokenizer."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Rows:
    """The size of a data set.

    Attributes:
        bytes: Bytes of text per row, side of a pair, or prompt.
        source: Where both are from.
    """

    rows: int
    bytes: float
    source: str


@dataclasses.dataclass(frozen=True, slots=True)
class _Training:
    """A stage that trains.

    Attributes:
        start: Size of the model that it starts from.
        reward: Size of the reward model of PPO; empty for none.
        model: Model that it starts from, unless it is the recipe's; a name in braces is the model of an earlier stage.
        options: Words of its command besides stage, recipe, models and output.
    """

    name: str
    what: str
    stage: Stage
    start: str
    rows: _Rows
    reward: str = ""
    model: str = ""
    reward_model: str = ""
    options: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    rollout_memory: float = 0.0


TRAININGS = (
    _Training(
        "sft", "SFT of Llama 3 8B", "sft", "8B",
        _Rows(326_154, 1_239_293_363 / 326_154,
              "allenai/tulu-v2-sft-mixture @9a0e786, dataset_info: 326,154 rows, 1,239,293,363 bytes"),
    ),
    _Training(
        "reward-model", "the 70B reward model on the means of UltraFeedback's aspects", "rm", "70B",
        _Rows(60_908, 397_273_717 / 61_966 / 3,
              "allenai/tulu-2.5-preference-data @6e87e7b: 60,908 pairs; length at most that of HuggingFaceH4/"
              "ultrafeedback_binarized, pairs on the same prompts: 397,273,717 bytes / 61,966 rows of three conversations"),
        model="allenai/llama-3-tulu-2-70b",
    ),
    _Training(
        "ppo", "PPO of the 8B policy by the 70B reward model; the 70B value model is trained beside it", "ppo", "8B",
        _Rows(60_900, 142e6 / 60_900,
              "allenai/tulu-2.5-prompts, page of the hub: 60.9k rows, file of 142 MB, whole rows counted as prompts"),
        reward="70B", model="{sft}/policy", reward_model="{reward-model}/reward_model",
        options=("--probe", "gsm8k", "--probe-limit", "200", "--tensorboard"),
        changes=("micro_tokens=8192",), rollout_memory=0.25,
    ),
)  # fmt: skip

NOTES = (
    "memory: what 'tulu-eval train --dry-run' says for the longest rows; within 10 % of live tensors on CPUs, not measured on "
    f"a GPU; what takes {SHARE:.0%} of the GPU or more does not fit",
    "nobody has run this yet: no such nodes were at hand (examples/ppo_8b_on_h200.md)",
    "the 70B reward model starts from the released allenai/llama-3-tulu-2-70b; its own SFT is not part of the plan",
    "released models can stand for stages 1 and 2: allenai/llama-3-tulu-2-8b and allenai/llama-3-tulu-2-70b-uf-mean-rm",
    "the card says 0.05 for kl_coef, as planned; the authors' notes 0.0325 for larger reward models (recipe easylm-large-rm)",
    "AlpacaEval 2 was judged by gpt-4-1106-preview, which is no longer served; another judge's number has another name",
    "the time is without downloads (16 and 141 GB of weights on each node), loading, checkpoints, the probe and the evaluation",
    "FIRST is the first node's address; all nodes must see the folder",
)


def plan(seed: int, folder: Path) -> ReproductionPlan:
    """Returns the plan for a folder, which need not exist.

    The number of devices is that of ``WORLD_SIZE``, ``LOCAL_WORLD_SIZE`` (8) of them in a node, as torchrun sets them; without
    it, each stage gets the smallest of :data:`DEVICES` that has room.

    Raises:
        UserError: If the number is not of whole nodes, or a batch cannot be shared evenly.
    """
    devices, per_node = _devices()
    with tempfile.TemporaryDirectory() as name:
        trained = [_stage(training, seed, folder, Path(name), devices, per_node) for training in TRAININGS]
    stages = (*trained, _evaluation(folder, per_node))
    left = [stage for stage in stages if not stage.done]
    return ReproductionPlan(
        recipe=NAME,
        seed=seed,
        folder=str(folder),
        stages=stages,
        per_node=per_node,
        device=f"H200, {H200_GIB:.0f} GiB",
        seconds=together((stage.seconds for stage in left), "seconds"),
        disk=together((stage.disk for stage in left), "bytes"),
        free=free_bytes(folder),
        notes=NOTES,
    )


def refusal(folder: Path) -> UserError:
    """Returns why this recipe is planned and not done here."""
    most = max(stage.devices for stage in plan(SEED, folder).stages)
    return UserError(
        f"{NAME} takes {most} GPUs of {H200_GIB:.0f} GiB, whose nodes start each stage themselves: "
        "'tulu-eval reproduce --recipe card-8b --dry-run' prints the commands for each"
    )


def _devices() -> tuple[tuple[int, ...], int]:
    """Returns the numbers of devices to try, and that of a node."""
    world = os.environ.get("WORLD_SIZE", "")
    local = os.environ.get("LOCAL_WORLD_SIZE", "")
    if not all(text.isdecimal() and 0 < int(text) <= 1 << 20 for text in (world, local) if text):
        raise UserError(f"WORLD_SIZE={world} and LOCAL_WORLD_SIZE={local} must be numbers of GPUs, 1 or more")
    devices = (int(world),) if world else DEVICES
    per_node = int(local) if local else min(NODE, *devices)
    for number in devices:
        if number % per_node:
            raise UserError(f"{number} GPUs are not whole nodes of {per_node}; set WORLD_SIZE, and LOCAL_WORLD_SIZE per node")
    return devices, per_node


def _stage(training: _Training, seed: int, folder: Path, shapes: Path, devices: tuple[int, ...], per_node: int) -> PlannedStage:
    changes = (*training.changes, *(() if seed == SEED else (f"seed={seed}",)))
    sourced = recipes.load(training.stage, "easylm", changes)
    rollouts = "vllm" if training.rollout_memory else "policy"
    order = TrainingOrder(training.stage, "easylm", rollouts=rollouts, rollout_memory=training.rollout_memory or 0.3)
    policy = sizing.model_files(training.start, shapes, scorer=False)
    scorer = sizing.model_files(training.reward, shapes, scorer=True) if training.reward else None
    longest = sizing.job(order, sourced, policy, scorer, rows=1, tokens=sourced.recipe.max_length)
    usual = sizing.job(
        order, sourced, policy, scorer,
        rows=training.rows.rows, tokens=min(sourced.recipe.max_length, round(training.rows.bytes / BYTES_PER_TOKEN)),
    )  # fmt: skip
    memory = tuple(_memory(longest, world) for world in devices)
    fitting = [one.devices for one in memory if one.fits]
    world = fitting[0] if fitting else devices[-1]
    Ranks(world=world).refuse_uneven(batch=sourced.recipe.batch)
    own = {name: value for name, value in (("model", training.model), ("reward_model", training.reward_model)) if value}
    models = {name: value.format(**{one.name: folder / one.name for one in TRAININGS}) for name, value in own.items()}
    start = tuple(models.get(key) or getattr(sourced.recipe, key) for key in ("model", *(("reward_model",) if scorer else ())))
    return PlannedStage(
        name=training.name,
        what=training.what,
        state=_state(folder / training.name, training.stage),
        start=start,
        data=f"{sourced.recipe.dataset}, split {sourced.recipe.split}",
        steps=_steps(usual, training.rows.source),
        seconds=_seconds(usual, training.rows, world),
        disk=_disk(longest),
        devices=world,
        memory=memory,
        commands=(_command(training, models, changes, folder, world, per_node),) if fitting else (),
    )


def _memory(job: Job, world: int) -> PlannedMemory:
    parts = device_memory(job, world, H200_GIB)
    return PlannedMemory(world, parts, sum(parts.values()) < SHARE * H200_GIB * 2**30)


def device_memory(job: Job, world: int, gib: float) -> dict[str, int]:
    """Returns the bytes on each of ``world`` CUDA devices, by part; of its memory vLLM gets the share that it is given."""
    found = cost.memory(job, world, "cuda")
    if job.order.rollouts == "vllm":
        share, weights = job.order.rollout_memory, found.pop(cost.ENGINE) / 2**30
        found[f"vLLM, {share:.0%}: weights {weights:.1f}, the rest keys and values"] = int(share * gib * 2**30)
    return found


def _state(run: Path, stage: Stage) -> str:
    if all((run / name).is_dir() for name in export.NAMES[stage]):
        return DONE
    saved = checkpoint.newest(run / "checkpoints")
    return f"goes on after step {saved.step}" if saved else TO_DO


def _steps(job: Job, source: str) -> Figure:
    recipe, unit = job.sourced.recipe, {"rm": "pairs", "ppo": "prompts"}.get(job.sourced.stage, "rows")
    epochs = f"{recipe.epochs} x " if recipe.epochs > 1 else ""
    how = (
        f"at most {epochs}{len(job.rows.rows):,} {unit} / {job.rows_per_step}, without those over {recipe.max_length:,} tokens"
    )
    return Figure(job.steps, job.steps, "steps", f"{how}; {source}")


def _seconds(job: Job, rows: _Rows, world: int) -> Figure:
    rate, least, most = H200_FLOPS * world, cost.flops(job, 0.25), cost.flops(job, 1.0)
    tokens = job.tokens // len(job.rows.rows) // (2 if job.sourced.stage == "rm" else 1)
    each = {"rm": "a side", "ppo": "a prompt"}.get(job.sourced.stage, "a row")
    answers = "; answers of a quarter, or all, of the allowed length" if job.sourced.stage == "ppo" else ""
    source = (
        f"{f'{least:.2g} to ' if least < most else ''}{most:.2g} operations at a half to a tenth of {world} x "
        f"{H200_FLOPS / 1e12:.0f} TFLOP/s (measured, benchmarks/README.md); {tokens:,} tokens {each} of {rows.bytes:,.0f} bytes"
        f"{answers}"
    )
    return Figure(least / (0.5 * rate), most / (0.1 * rate), "seconds", source)


def _disk(job: Job) -> Figure:
    trained = sum(shape.parameters for shape in cost.trained(job))
    kept, dtype = checkpoint.KEPT * checkpoint.BYTES_PER_PARAMETER * trained, 2 * trained
    most = kept + checkpoint.BYTES_PER_PARAMETER * trained
    if job.order.rollouts == "vllm":
        most += 2 * job.model.parameters
    source = (
        f"{trained / 1e9:.2f} billion trained parameters: {checkpoint.KEPT} checkpoints of {checkpoint.BYTES_PER_PARAMETER} "
        "bytes each, and the exported models of 2; at most with one more checkpoint while it is written"
    )
    return Figure(kept + dtype, max(most, kept + dtype), "bytes", source)


def _command(
    training: _Training, models: dict[str, str], changes: tuple[str, ...], folder: Path, world: int, per_node: int
) -> str:
    nodes = world // per_node
    across = ("--nnodes", str(nodes), "--rdzv-backend", "c10d", "--rdzv-endpoint", "FIRST:29500") if nodes > 1 else ()
    words = ["torchrun", *across, "--nproc-per-node", str(per_node), "--max-restarts", "3", "-m", "tulu_eval"]
    words += ["train", training.stage, "--recipe", "easylm"]
    for name, value in models.items():
        words += [f"--{name.replace('_', '-')}", value]
    for change in changes:
        words += ["--set", change]
    if training.rollout_memory:
        words += ["--rollouts", "vllm", "--rollout-memory", str(training.rollout_memory)]
    return shlex.join([*words, *training.options, "--output", str(folder / training.name)])


def _evaluation(folder: Path, per_node: int) -> PlannedStage:
    policy, results = folder / "ppo" / "policy", folder / "results"
    runs = shlex.quote(str(results / NAME))
    words = ["tulu-eval", "run", "gsm8k", "alpaca-eval", "--model", str(policy), "--name", NAME, "--backend", "vllm"]
    return PlannedStage(
        name="evaluate",
        what="the card's row: GSM8K on its 200 items, and AlpacaEval 2 with a judge",
        state=TO_DO,
        start=(str(policy),),
        data="gsm8k (card-200), alpaca-eval (805)",
        devices=per_node,
        commands=(
            shlex.join([*words, "--data-parallel", str(per_node), "--output", str(results)]),
            " ".join(("tulu-eval", "verify", f"{runs}/gsm8k/card-200-*", "--as", MODEL)),
            " ".join(("tulu-eval", "judge", f"{runs}/alpaca-eval/*", "--judge", "gpt-4.1", "--dry-run")),
        ),
    )
