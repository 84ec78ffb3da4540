"""Makes the job of a training run from an order: reads recipe, models, tokenizer and rows, and checks that they fit."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tulu_eval import files
from tulu_eval.backends.base import EngineSettings
from tulu_eval.backends.hf.device import resolve_device
from tulu_eval.backends.vllm.backend import VllmBackend
from tulu_eval.errors import PreflightError, UserError
from tulu_eval.models import config as configs
from tulu_eval.models.base import ModelFiles
from tulu_eval.models.resolve import resolve
from tulu_eval.models.tokenizer import load_for_prompts
from tulu_eval.registry import Suite
from tulu_eval.training import recipes, rewards
from tulu_eval.training.rewards import PromptSettings, RewardPart
from tulu_eval.training.rows.data import PreferencePair, RowReader, TrainingRows, files_of_split
from tulu_eval.training.rows.shared_tokens import SharedTokens, share
from tulu_eval.training.stages import PPORecipe, Recipe, Sourced, Stage
from tulu_eval.training.text import Encoder, Tokens


@dataclasses.dataclass(frozen=True, slots=True)
class TrainingOrder:
    """An order to train, as the user gave it.

    Attributes:
        recipe: Name of a recipe, or a file.
        model: Model to start from; empty for the recipe's.
        reward_model: Reward model of PPO; empty for the recipe's.
        data: Files of rows; empty for the recipe's data set of the hub.
        split: Split of the recipe's data set; empty for the recipe's.
        changes: Changed values of the recipe, each ``KEY=VALUE``.
        output: Folder of the run; ``None`` for ``training/<stage>-<model>-<recipe>``.
        save_every: Steps between checkpoints.
        fresh: Whether to start anew and rename finished models.
        rollouts: Engine of PPO's rollouts: the ``policy`` itself, or ``vllm``.
        rollout_memory: Share of a device's memory for vLLM, 0 to 1.
        watch_every: Steps of PPO between two looks at sample rollouts and the probe.
        probe: Benchmark whose first items the policy answers from time to time; empty for none.
        probe_data: File with the items; ``None`` for the benchmark's own source.
        allow_pickle: Whether models may have pickled weights.
        reward: Rewards of PPO, each ``NAME[:ARGUMENT][=WEIGHT]``; empty for the reward model, or for the server at its address.
        reward_url: Address of the reward ``server``; empty for none.
        skip_bad_rows: Whether to leave out and count rows of no known form.
        rank_timeout: Seconds without a sign of life after which a rank counts as lost, and the others end.
    """

    stage: Stage
    recipe: str
    model: str = ""
    reward_model: str = ""
    data: tuple[Path, ...] = ()
    split: str = ""
    changes: tuple[str, ...] = ()
    output: Path | None = None
    save_every: int = 10
    fresh: bool = False
    rollouts: str = "policy"
    rollout_memory: float = 0.3
    tensorboard: bool = False
    watch_every: int = 10
    probe: str = ""
    probe_items: int = 64
    probe_data: Path | None = None
    allow_pickle: bool = False
    reward: tuple[str, ...] = ()
    reward_url: str = ""
    skip_bad_rows: bool = False
    rank_timeout: float = 120.0


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """A training run before any weight is loaded.

    Attributes:
        tokenizer: The model's; read without transformers where that makes no difference, until weights are loaded.
        reward_model: Reward model of PPO; ``None`` for other stages, and where no reward uses one and none is given.
        rows: Conversations, pairs or prompts.
        drawn: Number of the token ids that PPO's policy may draw, the smallest ones; ``None`` for all.
        notices: What a user should know before the run, one line each.
        rewards: Rewards of PPO with their weights; empty for the reward model alone, and for other stages.
    """

    order: TrainingOrder
    sourced: Sourced
    model: ModelFiles
    reward_model: ModelFiles | None
    tokenizer: Any
    rows: TrainingRows[Tokens] | TrainingRows[PreferencePair]
    folder: Path
    rows_per_step: int
    updates_per_step: int
    drawn: int | None = None
    notices: tuple[str, ...] = ()
    rewards: tuple[RewardPart, ...] = ()

    @property
    def value_start(self) -> ModelFiles:
        """The model from which PPO's value model starts: the reward model, else the policy with a head of zeros."""
        return self.reward_model or self.model

    @property
    def scored_by(self) -> ModelFiles | None:
        """The reward model, if a reward uses it."""
        return self.reward_model if not self.rewards or any(part.kind.uses_model for part in self.rewards) else None

    @property
    def steps(self) -> int:
        """Number of steps."""
        return self.sourced.recipe.epochs * (len(self.rows.rows) // self.rows_per_step)

    @property
    def tokens(self) -> int:
        """Number of tokens in all rows."""
        return sum(row.tokens() if isinstance(row, PreferencePair) else len(row) for row in self.rows.rows)

    @property
    def adjustable(self) -> dict[str, float]:
        """Values that may change where a run goes on, and that its checkpoints record."""
        return {**self.sourced.adjustable, "save_every": self.order.save_every}

    @property
    def identity(self) -> dict[str, str]:
        """Values that a checkpoint and the run must share, by name for messages."""
        found = {
            "stage": self.sourced.stage,
            "recipe": self.sourced.past_sha256,
            "data": self.rows.sha256,
            "model": self.model.weights_sha256,
            "tokenizer": self.model.tokenizer_sha256,
        }
        if self.reward_model:
            found["reward model"] = self.reward_model.weights_sha256
        if self.rewards and self.rewards != rewards.parse((), ""):
            found["reward"] = "; ".join(
                f"{one.weight:g} {one.shown} {one.kind.check(one.argument, self.order.reward_url)}".strip()
                for one in self.rewards
            )
        return found


def load_recipe(order: TrainingOrder) -> Sourced:
    """Returns the recipe of an order with its changes.

    Raises:
        UserError: If the recipe is unknown or cannot be followed, or an option does not apply to the stage.
    """
    for option, given in (("model", order.reward_model), ("url", order.reward_url)):
        if given and order.stage != "ppo":
            raise UserError(f"--reward-{option} is for ppo, not {order.stage}")
    if order.reward and order.stage != "ppo":
        raise UserError(f"--reward is for ppo, not {order.stage}")
    if order.rollouts != "policy" and order.stage != "ppo":
        raise UserError(f"--rollouts is for ppo, not {order.stage}")
    if order.probe and order.stage != "ppo":
        raise UserError(f"--probe is for ppo, not {order.stage}")
    if order.probe_data and not order.probe:
        raise UserError("--probe-data needs --probe BENCHMARK")
    if order.split and order.data:
        raise UserError("--split is for the recipe's data set; give either --split or --data")
    said = {"model": order.model, "reward_model": order.reward_model, "split": order.split}
    changes = (*order.changes, *(f"{key}={json.dumps(value)}" for key, value in said.items() if value))
    return recipes.load(order.stage, order.recipe, changes)


def make_job(order: TrainingOrder, suite: Suite) -> Job:
    """Returns the job of an order; finds the models and reads the rows, but loads and downloads no weights.

    Raises:
        UserError: If something is missing or unknown, or does not fit.
    """
    sourced = load_recipe(order)
    recipe = sourced.recipe
    model = _model(recipe.model, "--model", order, suite)
    tokenizer = load_for_prompts(model.path, model.name, trust_remote_code=False)
    reward_model, parts = None, _rewards(order)
    shared = SharedTokens(_vocabulary(model))
    if isinstance(recipe, PPORecipe) and (order.reward_model or any(part.kind.uses_model for part in parts)):
        reward_model = _model(recipe.reward_model, "--reward-model", order, suite)
        shared = _shared(order, model, reward_model, tokenizer)
    longest = recipe.max_length + (recipe.max_new_tokens if isinstance(recipe, PPORecipe) else 0)
    models = [one for one in (model, reward_model) if one is not None]
    for one in models:
        if one.context and longest > one.context:
            raise PreflightError(f"rows may have {longest} tokens, and {one.name} has {one.context} positions; set max_length")
    rows = _read(order, sourced, parts, tokenizer, shared.size)
    rows_per_step, updates = per_step(recipe)
    if len(rows.rows) < rows_per_step:
        raise UserError(f"{len(rows.rows)} rows are too few for one step of {rows_per_step}; give more data or a smaller batch")
    name = f"{order.stage}-{model.name.replace('/', '--')}-{sourced.name}"
    if order.rollouts == "vllm":
        VllmBackend.check(model, engine_settings(order, recipe))
    folder = order.output or Path("training") / name
    files.check_folder(folder)
    return Job(
        order, sourced, model, reward_model, tokenizer, rows, folder, rows_per_step, updates, shared.size, shared.notices, parts
    )


def pick_device(name: str) -> str:
    """Returns ``cuda`` or ``cpu``; ``auto`` is cuda if a CUDA device is available.

    Raises:
        PreflightError: If the device is not available, or training does not run on it.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise PreflightError(f"training does not run on device {name!r} here; use --device auto")
    return "cuda" if resolve_device(name) == "cuda" else "cpu"


def per_step(recipe: Recipe) -> tuple[int, int]:
    """Returns the number of rows and of updates of a step."""
    if not isinstance(recipe, PPORecipe):
        return recipe.batch, 1
    return recipe.rollout_batch, recipe.rollout_batch * recipe.rollouts_per_prompt // recipe.batch * recipe.inner_epochs


def _rewards(order: TrainingOrder) -> tuple[RewardPart, ...]:
    """Returns the rewards of an order, each checked; none for a stage without rewards."""
    if order.stage != "ppo":
        return ()
    parts = rewards.parse(order.reward, order.reward_url)
    for part in parts:
        part.kind.check(part.argument, order.reward_url)
    return parts


def _own_prompts(
    order: TrainingOrder, recipe: Recipe, parts: Sequence[RewardPart], tokenizer: Any, vocabulary: int
) -> TrainingRows[Tokens] | None:
    """Returns the prompts to which a reward knows right answers; ``None`` if no reward has prompts of its own.

    Raises:
        UserError: If two rewards have prompts of their own that differ, or several files are given.
    """
    if not isinstance(recipe, PPORecipe):
        return None
    data = order.data[0] if order.data else None
    settings = PromptSettings(data, tokenizer, recipe.prompt_bos, recipe.max_length, vocabulary)
    own = {part.shown: found for part in parts if (found := part.kind.prompts(part.argument, settings))}
    if own and len(order.data) > 1:
        raise UserError(f"--reward {next(iter(own))} takes its items from one --data file")
    if len({found.sha256 for found in own.values()}) > 1:
        raise UserError(f"the rewards {' and '.join(own)} have prompts of their own, and a run has those of one")
    return next(iter(own.values()), None)


def engine_settings(order: TrainingOrder, recipe: Recipe) -> EngineSettings:
    """Returns the settings of the engine of a run's rollouts."""
    return EngineSettings(dtype=recipe.compute_dtype, gpu_memory_utilization=order.rollout_memory)


def _model(name: str, option: str, order: TrainingOrder, suite: Suite) -> ModelFiles:
    if not name:
        raise UserError(f"the recipe names no model; give {option}")
    return resolve(name, suite, allow_pickle=order.allow_pickle)[0]


def _shared(order: TrainingOrder, model: ModelFiles, reward_model: ModelFiles, tokenizer: Any) -> SharedTokens:
    """Returns the token ids that policy and reward model both know."""
    theirs = load_for_prompts(reward_model.path, reward_model.name, False)
    own = _vocabulary(model)
    shared = share(tokenizer, theirs, (model.name, reward_model.name), (own, _vocabulary(reward_model)))
    if order.rollouts == "vllm" and shared.size < own:
        raise PreflightError(
            f"{reward_model.name} knows {shared.size} of the {own} token ids that {model.name} may draw; "
            "--rollouts policy never draws the others"
        )
    return shared


def _read(
    order: TrainingOrder, sourced: Sourced, parts: Sequence[RewardPart], tokenizer: Any, vocabulary: int
) -> TrainingRows[Tokens] | TrainingRows[PreferencePair]:
    """Returns the rows of a stage: the prompts of a reward that has its own, else those of the files or the data set."""
    recipe = sourced.recipe
    own = _own_prompts(order, recipe, parts, tokenizer, vocabulary)
    if own is not None:
        return own
    if not order.data and not recipe.dataset:
        raise UserError(f"recipe {sourced.name} has no data set of its own; give --data rows.jsonl")
    reader = RowReader(Encoder(tokenizer), recipe.max_length, vocabulary, order.skip_bad_rows)
    paths = order.data or files_of_split(recipe.dataset, recipe.split)
    if sourced.stage == "sft":
        return reader.conversations(paths)
    if isinstance(recipe, PPORecipe):
        return reader.prompts(paths, bos=recipe.prompt_bos)
    return reader.pairs(paths)


def _vocabulary(model: ModelFiles) -> int:
    """Returns the number of a model's token ids from its config."""
    return configs.read(model.path).vocabulary or configs.MAX_NUMBER
