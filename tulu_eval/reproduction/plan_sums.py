"""What ``reproduce --recipe sums`` would do in a folder, and what is there already; writes nothing and loads no model."""

from __future__ import annotations

import shutil
from pathlib import Path

from tulu_eval.benchmarks.sums import Sums
from tulu_eval.reproduction import rule
from tulu_eval.reproduction.acts import MEASURED, RULE, START, TRAININGS, Training
from tulu_eval.reproduction.planned import DONE, TO_DO, Figure, PlannedStage, ReproductionPlan, together
from tulu_eval.reproduction.reproduce import HELD_OUT, ReproducedStages, has_run, refuse_other_seed
from tulu_eval.training import recipes
from tulu_eval.training.job import per_step
from tulu_eval.training.saving import checkpoint

SECONDS: dict[str, tuple[float, float]] = {
    "data": (8.3, 17.1),
    "sums-sft": (72.2, 105.0),
    "sums-rm": (8.2, 10.3),
    "sums-chosen": (4.3, 4.5),
    "sums-ppo": (14.5, 24.3),
    "sums-rule": (41.1, 52.8),
    "assess": (3.8, 3.9),
    "run": (16.3, 17.2),
}
"""Seconds of the stages in the authors' runs of two seeds."""

SECONDS_SOURCE = "results/reproduce-sums, seeds 1 and 2, one thread each on 2 cores that other work shared"

DISK: dict[str, int] = {
    "data": 6_258_610,
    "sums-sft": 4_611_730,
    "sums-rm": 2_646_710,
    "sums-chosen": 4_219_580,
    "sums-ppo": 4_758_113,
    "sums-rule": 7_928_108,
    "assess": 2_205,
    "run": 1_413_112,
}
"""Bytes of the stages' files in the authors' run of seed 2, with run, checkpoints and exported model."""

DISK_SOURCE = "the files of the authors' run of seed 2"


def plan(seed: int, folder: Path) -> ReproductionPlan:
    """Returns the plan for a folder, which need not exist.

    Raises:
        UserError: If the folder has the stages of another seed.
    """
    whole = ReproducedStages(folder, seed, quiet=True, say=lambda _: None)
    refuse_other_seed(whole)
    made = (folder / "data").exists() and whole.model(START).exists()
    stages = (
        _stage(
            "data", "makes pairs, prompts and conversations by a rule, and a model with random weights", DONE if made else TO_DO
        ),
        *(_training(whole, name, training) for name, training in TRAININGS.items()),
        _stage(
            "assess",
            "the reward model on held-out pairs, the policies on held-out prompts",
            DONE if (folder / HELD_OUT).exists() else TO_DO,
            start=("sums-sft", "sums-rm", "sums-ppo"),
        ),
        _run(whole),
    )
    left = [stage for stage in stages if not stage.done]
    return ReproductionPlan(
        recipe="sums",
        seed=seed,
        folder=str(folder),
        stages=stages,
        per_node=0,
        device="",
        seconds=together((stage.seconds for stage in left), "seconds"),
        disk=together((stage.disk for stage in left), "bytes"),
        free=free_bytes(folder),
        notes=("a stage that was killed goes on from its own checkpoint, or from the answers that it has",),
    )


def free_bytes(folder: Path) -> int:
    """Returns the free bytes where a folder is or would be."""
    return shutil.disk_usage(next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())).free


def _stage(
    name: str, what: str, state: str, *, start: tuple[str, ...] = (), data: str = "", steps: Figure | None = None
) -> PlannedStage:
    low, high = SECONDS[name]
    return PlannedStage(
        name, what, state, start, data, steps,
        Figure(low, high, "seconds", SECONDS_SOURCE),
        Figure(DISK[name], DISK[name], "bytes", DISK_SOURCE),
    )  # fmt: skip


def _training(whole: ReproducedStages, name: str, training: Training) -> PlannedStage:
    words = {"sft": "SFT", "rm": "a reward model", "ppo": "PPO by the reward model"}
    what = "PPO by the benchmark's own scorer" if training.reward else words[training.stage]
    start = tuple(filter(None, (training.start, training.reward_model)))
    state = DONE
    if not whole.model(name).exists():
        saved = checkpoint.newest(whole.folder / "training" / name / "checkpoints")
        state = f"goes on after step {saved.step}" if saved else TO_DO
    data = f"data/{training.rows}.jsonl" if training.rows else "the training split of sums"
    return _stage(name, what, state, start=start, data=data, steps=_steps(name, training, whole.seed))


def _steps(name: str, training: Training, seed: int) -> Figure:
    recipe = recipes.load(training.stage, training.recipe, (f"seed={seed}",)).recipe
    rows = (
        len(Sums().training_items(None))
        if name == RULE
        else rule.SIZES["pairs" if training.rows == "chosen" else training.rows]
    )
    rows_per_step, _ = per_step(recipe)
    steps = recipe.epochs * (rows // rows_per_step)
    epochs = f"{recipe.epochs} x " if recipe.epochs > 1 else ""
    return Figure(steps, steps, "steps", f"{epochs}{rows:,} rows / {rows_per_step}")


def _run(whole: ReproducedStages) -> PlannedStage:
    done = sum(has_run(whole, name) for name in MEASURED)
    state = DONE if done == len(MEASURED) else f"{done} of {len(MEASURED)} done" if done else TO_DO
    what = f"answers the {Sums.protocols['full'].n} questions of sums with each of {len(MEASURED)} models"
    return _stage("run", what, state, start=tuple(MEASURED))
