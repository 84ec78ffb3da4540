"""The recipes of the stages as frozen records; :mod:`~tulu_eval.training.recipes` reads them."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

from tulu_eval.records import content_hash

Stage = Literal["sft", "rm", "dpo", "ppo"]
STAGES: tuple[Stage, ...] = get_args(Stage)

RATES = ("learning_rate", "final_learning_rate")
"""Settings that may change where a run goes on: they have an effect on later updates only."""

GUARDS = ("max_skipped", "kl_ceiling", "eos_floor", "patience")
"""Settings that may change where a run goes on: they have an effect on when it stops only."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The settings of every stage.

    Attributes:
        model: Model to start from, unless the command line names one.
        dataset: Data set of the hub, unless the command line names a file.
        epochs: Passes over the data, each without an incomplete last batch.
        max_length: Largest number of tokens of a row (SFT), side (RM, DPO) or prompt (PPO); longer ones are dropped.
        batch: Rows, pairs or rollouts per update, over all ranks.
        micro_tokens: Tokens that go through a model at once on one rank; a longer row goes alone. No effect on the result.
        activation_checkpointing: Whether the backward pass computes activations again instead of keeping them. No effect on
            the result.
        learning_rate: Highest rate, after the warm-up.
        final_learning_rate: Rate after the last update; the decay is linear.
        warmup: Share of the updates in the linear warm-up from 0.
        warmup_of: Whether that is a share of the updates of the whole ``run``, or of one ``epoch``.
        adam_b1: Decay of the first moment.
        adam_b2: Decay of the second moment.
        adam_eps: Added to the root of the second moment.
        weight_decay: Decoupled weight decay.
        clip_norm: Largest norm of a model's whole gradient.
        compute_dtype: dtype of forward and backward passes; trained parameters and moments are always float32.
        max_skipped: Training stops after this many updates in a row without a finite loss or gradient.
    """

    model: str
    dataset: str
    split: str
    seed: int
    epochs: int
    max_length: int
    batch: int
    micro_tokens: int
    activation_checkpointing: bool
    learning_rate: float
    final_learning_rate: float
    warmup: float
    warmup_of: Literal["run", "epoch"]
    adam_b1: float
    adam_b2: float
    adam_eps: float
    weight_decay: float
    clip_norm: float
    compute_dtype: Literal["float32", "bfloat16"]
    max_skipped: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SFTRecipe(Recipe):
    """Supervised fine-tuning; it has no settings of its own."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RewardModelRecipe(Recipe):
    """A reward model on pairs.

    Attributes:
        head_std: Standard deviation of the new head's weights.
    """

    head_std: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DPORecipe(Recipe):
    """DPO on pairs.

    Attributes:
        beta: Weight of the divergence from the reference.
    """

    beta: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PPORecipe(Recipe):
    """PPO on prompts.

    Attributes:
        reward_model: Model that scores responses; the value model starts as its copy.
        prompt_bos: Whether prompts begin with the tokenizer's beginning token.
        rollout_batch: Prompts per step; all rollouts of a step come from the policy at its start.
        rollouts_per_prompt: Rollouts per prompt, adjacent in the batch.
        inner_epochs: Passes over the rollouts of a step.
        inner_order: ``mini-batch`` passes over each mini-batch again before the next, measured from the log-probabilities and
            values of the first pass; ``rollouts`` passes over all mini-batches again, and computes these anew each time.
        max_new_tokens: Largest number of tokens of a response, including the end token.
        top_k: Number of candidates in sampling; 0 for no limit.
        top_p: Probability mass of the candidates in sampling; 1 for no limit.
        logprob_temperature: Divisor of the logits of policy and reference in log-probabilities.
        gae_lambda: Lambda of generalised advantage estimation.
        clip: Clip range of the probability ratio.
        value_clip: Clip range of the value's change.
        kl_coef: Weight of the KL from the reference in the reward of each token.
        reward_gain: Factor of the score, also of a score by ``no_eos_reward``.
        reward_bias: Added to the multiplied score.
        whiten_rewards: Whether to scale the rewards of a mini-batch's tokens to variance 1, keeping their mean.
        no_eos_reward: Score of a response without an end token; ``None`` keeps the reward model's score.
        kl_ceiling: Largest mean KL of a step in nats per response; training stops above it.
        eos_floor: Smallest share of a step's responses with an end token; training stops below it.
        patience: Number of steps in a row beyond the ceiling or the floor after which training stops.
    """

    reward_model: str
    prompt_bos: bool
    rollout_batch: int
    rollouts_per_prompt: int
    inner_epochs: int
    inner_order: Literal["mini-batch", "rollouts"]
    max_new_tokens: int
    temperature: float
    top_k: int
    top_p: float
    logprob_temperature: float
    gamma: float
    gae_lambda: float
    clip: float
    value_clip: float
    value_coef: float
    kl_coef: float
    reward_gain: float
    reward_bias: float
    whiten_rewards: bool
    no_eos_reward: float | None
    kl_ceiling: float
    eos_floor: float
    patience: int


CLASSES: dict[Stage, type[Recipe]] = {"sft": SFTRecipe, "rm": RewardModelRecipe, "dpo": DPORecipe, "ppo": PPORecipe}


@dataclasses.dataclass(frozen=True, slots=True)
class Sourced:
    """A recipe with the sources of its values.

    Attributes:
        about: One sentence about the recipe.
        sources: Source of each value, by field.
        legend: Meanings of the short names in the sources.
        otherwise: What every recipe of the stage does otherwise than the code that trained the suite, by subject.
    """

    stage: Stage
    name: str
    about: str
    recipe: Recipe
    sources: dict[str, str]
    legend: dict[str, str]
    otherwise: dict[str, str]

    @property
    def sha256(self) -> str:
        """Hash of the values that have an effect on the result, without models and data, which have hashes of their own."""
        return self._hash_without(())

    @property
    def past_sha256(self) -> str:
        """The same hash without the values that may change where a run goes on (:data:`RATES`, :data:`GUARDS`)."""
        return self._hash_without((*RATES, *GUARDS))

    @property
    def adjustable(self) -> dict[str, float]:
        """The values that may change where a run goes on."""
        return {key: getattr(self.recipe, key) for key in (*RATES, *GUARDS) if hasattr(self.recipe, key)}

    def _hash_without(self, more: tuple[str, ...]) -> str:
        values = dataclasses.asdict(self.recipe)
        for key in ("micro_tokens", "activation_checkpointing", "model", "reward_model", "dataset", "split", *more):
            values.pop(key, None)
        return content_hash(values)
