"""Trains a checkpoint of the suite, or one like it, or plans it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, get_args

from tulu_eval.api.models import load_suite
from tulu_eval.api.paths import AnyPath
from tulu_eval.api.silence import silence
from tulu_eval.api.words import spoken
from tulu_eval.errors import UnknownName, UserError
from tulu_eval.registry import Suite
from tulu_eval.training import recipes
from tulu_eval.training.stages import Sourced, Stage

if TYPE_CHECKING:
    from tulu_eval.training.job import Job, TrainingOrder
    from tulu_eval.training.launch import TrainingOutcome

SCORES = ("loss", "score", "accuracy", "kl")
"""Numbers of a step that stand behind the bar, if the stage has them."""


class Watcher(Protocol):
    """Shows the progress of training."""

    def step(self, step: int, steps: int, numbers: dict[str, float]) -> None:
        """Gets a step, counted from 0, and its numbers."""

    def say(self, text: str) -> None:
        """Gets sample rollouts and the probe, as text for people."""


@dataclasses.dataclass(frozen=True)
class TrainingPlan:
    """What training would do.

    Attributes:
        device: ``cpu`` or ``cuda``.
        world: Number of processes.
    """

    order: TrainingOrder
    recipe: Sourced
    device: str
    world: int
    suite: Suite

    @cached_property
    @spoken
    def job(self) -> Job:
        """The models and rows; the first use looks them up and reads them, but loads and downloads no weights.

        Raises:
            UserError: If something is missing, unknown or does not fit.
        """
        from tulu_eval.training.job import make_job

        return make_job(self.order, self.suite)


@spoken
def train(
    stage: Stage,
    recipe: str,
    *,
    model: AnyPath = "",
    data: AnyPath | Sequence[AnyPath] = (),
    reward_model: AnyPath = "",
    reward: str | Sequence[str] = (),
    reward_url: str = "",
    split: str = "",
    skip_bad_rows: bool = False,
    settings: Mapping[str, object] | None = None,
    output: AnyPath | None = None,
    device: str = "auto",
    save_every: int = 10,
    fresh: bool = False,
    rollouts: str = "policy",
    rollout_memory: float = 0.3,
    watch_every: int = 10,
    probe: str = "",
    probe_limit: int = 64,
    probe_data: AnyPath | None = None,
    tensorboard: bool = False,
    allow_pickle: bool = False,
    rank_timeout: float = 120.0,
    registry: AnyPath | None = None,
    progress: bool | Watcher = True,
    **changes: object,
) -> TrainingOutcome:
    """Trains; the same call goes on where a run was interrupted. Under torchrun each process makes the same call.

    >>> done = tulu_eval.train("ppo", "tiny", model="./sft", reward_model="./rm", data="prompts.jsonl", kl_coef=0.0325)
    >>> done.models

    Args:
        stage: sft, rm (reward model), dpo or ppo.
        recipe: easylm, card, tiny, ... or a TOML file (``file.toml:name`` where it has several).
        model: Model that training starts from; the recipe's unless given.
        data: Rows in Tulu's, TRL's or ShareGPT's form, one file or several, in place of the recipe's data set.
        reward_model: ppo: model that scores the answers, and that the value model starts from.
        reward: ppo: what scores the answers, one or several to be summed: ``model``, ``rule:BENCHMARK`` (its own scorer on its
            training split, or on ``data``), ``server``, or a plug-in's; ``NAME=WEIGHT`` gives a weight.
        reward_url: ppo: address of the reward ``server``.
        split: Split of the recipe's data set.
        skip_bad_rows: Leave out and count rows of no known form, instead of refusing the first.
        settings: Values of the recipe to change, by key; a text is read as the command line reads it, None is ``off``.
        output: Folder of the run; ``training/<stage>-<model>-<recipe>`` unless given.
        device: ``cpu`` or ``cuda``; ``auto`` is cuda if it is there.
        save_every: Steps between checkpoints, 1 or more.
        fresh: Begin anew rather than go on from the last checkpoint.
        rollouts: ppo: decode with the ``policy`` itself, or with ``vllm`` on the same devices.
        rollout_memory: ppo: fraction of each device's memory for vLLM, above 0 and at most 1.
        watch_every: ppo: steps between two looks at sample rollouts and the probe, 1 or more.
        probe: ppo: benchmark whose first items show, while training goes on, the gain over its start.
        probe_limit: ppo: items of the probe, 1 or more.
        probe_data: ppo: file with the probe's benchmark.
        tensorboard: Write curves to the run's folder ``tensorboard`` too.
        allow_pickle: Take pickled weights; what would run code is refused.
        rank_timeout: Under torchrun: seconds without a sign of life after which a rank counts as lost, and the others end.
        registry: TOML file with models of your own.
        progress: Draw a bar; or a :class:`Watcher`.
        changes: The same as ``settings``, as keywords.

    Raises:
        UserError: If something is missing or does not fit, or a guard stops the run.
    """
    plan = plan_training(
        stage, recipe, model=model, data=data, reward_model=reward_model, reward=reward, reward_url=reward_url, split=split,
        skip_bad_rows=skip_bad_rows, settings={**(settings or {}), **changes},
        output=output, device=device, save_every=save_every, fresh=fresh, rollouts=rollouts, rollout_memory=rollout_memory,
        watch_every=watch_every, probe=probe, probe_limit=probe_limit, probe_data=probe_data, tensorboard=tensorboard,
        allow_pickle=allow_pickle, rank_timeout=rank_timeout, registry=registry,
    )  # fmt: skip
    from tulu_eval.training import launch

    with silence(progress is False), _watching(progress) as (step, say):
        return launch.execute(plan.job, plan.device, step, say)


@spoken
def plan_training(
    stage: Stage,
    recipe: str,
    *,
    model: AnyPath = "",
    data: AnyPath | Sequence[AnyPath] = (),
    reward_model: AnyPath = "",
    reward: str | Sequence[str] = (),
    reward_url: str = "",
    split: str = "",
    skip_bad_rows: bool = False,
    settings: Mapping[str, object] | None = None,
    output: AnyPath | None = None,
    device: str = "auto",
    save_every: int = 10,
    fresh: bool = False,
    rollouts: str = "policy",
    rollout_memory: float = 0.3,
    watch_every: int = 10,
    probe: str = "",
    probe_limit: int = 64,
    probe_data: AnyPath | None = None,
    tensorboard: bool = False,
    allow_pickle: bool = False,
    rank_timeout: float = 120.0,
    registry: AnyPath | None = None,
    **changes: object,
) -> TrainingPlan:
    """Returns what :func:`train`, called with the same, would do: the recipe with sources at once, the rest when asked for.

    >>> plan = tulu_eval.plan_training("ppo", "easylm")
    >>> plan.recipe.recipe.kl_coef, plan.recipe.sources["kl_coef"]
    >>> plan.job.steps, len(plan.job.rows.rows)  # reads models and rows; loads no weights

    Args:
        stage: sft, rm, dpo or ppo.
        recipe: Name, or TOML file.
        model: As :func:`train` takes it, and so are all that follow.
        data: Files of rows.
        reward_model: Model that scores the answers.
        reward: What scores the answers.
        reward_url: Address of the reward ``server``.
        split: Split of the recipe's data set.
        skip_bad_rows: Leave out and count rows of no known form, instead of refusing the first.
        settings: Values of the recipe to change.
        output: Folder of the run.
        device: ``cpu``, ``cuda`` or ``auto``.
        save_every: Steps between checkpoints.
        fresh: Begin anew.
        rollouts: ``policy`` or ``vllm``.
        rollout_memory: Fraction of each device's memory for vLLM.
        watch_every: Steps between two looks at rollouts.
        probe: Benchmark of the probe.
        probe_limit: Its items.
        probe_data: Its file.
        tensorboard: Write curves for TensorBoard.
        allow_pickle: Take pickled weights.
        rank_timeout: Seconds after which a silent rank counts as lost.
        registry: TOML file with models of your own.
        changes: The same as ``settings``, as keywords.

    Raises:
        UserError: If the recipe is unknown or cannot be followed, or a value does not fit.
    """
    _check(
        stage, rollouts, rollout_memory, rank_timeout, save_every=save_every, watch_every=watch_every, probe_limit=probe_limit
    )
    recipes.check_name(stage, recipe)
    from tulu_eval.training.job import TrainingOrder, load_recipe, pick_device

    order = TrainingOrder(
        stage=stage,
        recipe=recipe,
        model=str(model),
        reward_model=str(reward_model),
        data=_paths(data),
        split=split,
        changes=tuple(f"{key}={_text(value)}" for key, value in {**(settings or {}), **changes}.items()),
        output=None if output is None else Path(output),
        save_every=save_every,
        fresh=fresh,
        rollouts=rollouts,
        rollout_memory=rollout_memory,
        tensorboard=tensorboard,
        watch_every=watch_every,
        probe=probe,
        probe_items=probe_limit,
        probe_data=None if probe_data is None else Path(probe_data),
        allow_pickle=allow_pickle,
        rank_timeout=rank_timeout,
        reward=(reward,) if isinstance(reward, str) else tuple(reward),
        reward_url=reward_url,
        skip_bad_rows=skip_bad_rows,
    )
    where = pick_device(device)
    return TrainingPlan(order, load_recipe(order), where, int(os.environ.get("WORLD_SIZE", "1")), load_suite(registry))


def _check(stage: str, rollouts: str, rollout_memory: float, rank_timeout: float, **counts: int) -> None:
    """Raises UserError if a value that the command line's types check is out of range or unknown."""
    if stage not in get_args(Stage):
        raise UnknownName("stage", stage, get_args(Stage))
    if rollouts not in ("policy", "vllm"):
        raise UnknownName("kind of rollouts", rollouts, ("policy", "vllm"))
    if not 0.0 < rollout_memory <= 1.0:
        raise UserError(f"--rollout-memory is a fraction above 0, at most 1, not {rollout_memory}")
    if not rank_timeout >= 10:
        raise UserError(f"--rank-timeout must be 10 s or more, not {rank_timeout}")
    for name, count in counts.items():
        if count < 1:
            raise UserError(f"{name} must be 1 or more, not {count}")


def _paths(data: AnyPath | Sequence[AnyPath]) -> tuple[Path, ...]:
    several = isinstance(data, Sequence) and not isinstance(data, str)
    return tuple(map(Path, data)) if several else (Path(data),)  # type: ignore[arg-type]


def _text(value: object) -> str:
    """Returns a value as ``--set`` takes it, which reads TOML."""
    if value is None:
        return "off"
    return str(value).lower() if isinstance(value, bool) else str(value)


@contextlib.contextmanager
def _watching(
    progress: bool | Watcher,
) -> Iterator[tuple[Callable[[int, int, dict[str, float]], None], Callable[[str], None]]]:
    """Yields a function for each step's numbers, and one for texts."""
    if not isinstance(progress, bool):
        yield progress.step, progress.say
        return
    from tqdm.auto import tqdm

    with tqdm(unit="step", disable=not progress or int(os.environ.get("RANK", "0")) > 0) as bar:

        def step(at: int, steps: int, numbers: dict[str, float]) -> None:
            bar.total = steps
            bar.set_postfix({name: numbers[name] for name in SCORES if name in numbers}, refresh=False)
            bar.update(at + 1 - bar.n)

        def say(text: str) -> None:
            if progress:
                bar.write(text, file=sys.stderr)

        yield step, say
