"""What a recipe holds: one frozen record a stage; :mod:`~tulu_eval.training.recipes` reads them."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

from tulu_eval.records import content_hash

Stage = Literal["sft", "rm", "dpo", "ppo"]
STAGES: tuple[Stage, ...] = get_args(Stage)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What every stage has.

    Attributes:
        model: Model that training starts from, where the command line names none.
        dataset: Data set of the hub, where the command line names no file.
        split: Its split.
        seed: All randomness derives from it.
        epochs: Passes over the data; a last incomplete batch of each is left out.
        max_length: Tokens of the longest row (SFT), side (RM, DPO) or prompt (PPO) that is kept.
        batch: Rows, pairs or rollouts of one update, over all ranks.
        micro_tokens: Tokens that go through a model at once on one rank; a longer row goes alone. No effect on the result.
        activation_checkpointing: Whether the backward pass computes a layer's activations once more instead of having kept
            them. No effect on the result.
        learning_rate: Highest, after the warm-up.
        final_learning_rate: After the last update, linearly.
        warmup: Share of the updates, linear from 0.
        adam_b1: Decay of the first moment.
        adam_b2: Decay of the second moment.
        adam_eps: Added to the root of the second moment.
        weight_decay: Decoupled.
        clip_norm: Highest norm of a model's whole gradient.
        compute_dtype: Of forward and backward passes; trained parameters and moments are always float32.
        max_skipped: Updates in a row without a finite loss or gradient after which training stops.
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
    adam_b1: float
    adam_b2: float
    adam_eps: float
    weight_decay: float
    clip_norm: float
    compute_dtype: Literal["float32", "bfloat16"]
    max_skipped: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SFTRecipe(Recipe):
    """Supervised fine-tuning: nothing of its own."""


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
        reward_model: Scores responses; the value model starts as its copy.
        prompt_bos: Whether prompts begin with the token that the tokenizer puts in front.
        rollout_batch: Prompts of one step; their rollouts all come from the policy at its start.
        rollouts_per_prompt: Adjacent in the batch.
        inner_epochs: Passes over each mini-batch; old log-probabilities and values are those of the first.
        max_new_tokens: Of a response, the end token included.
        temperature: Of sampling.
        top_k: Of sampling; 0 is off.
        top_p: Of sampling; 1 is off.
        logprob_temperature: Divides the logits of policy and reference where they are compared.
        gamma: Discount.
        gae_lambda: Of the advantage estimate.
        clip: Of the probability ratio.
        value_clip: Of the value's change.
        value_coef: Weight of the value loss.
        kl_coef: Weight of the divergence from the reference in the reward of each token.
        reward_gain: Factor of the score, whichever it is.
        reward_bias: Added to it then.
        whiten_rewards: Whether the rewards of a mini-batch's tokens are scaled to variance 1, with their mean kept.
        no_eos_reward: Replaces the score of a response without an end token; none: no such rule.
        kl_ceiling: Nats a response in the mean of a step; above it training stops.
        eos_floor: Share of responses of a step that end; below it training stops.
        patience: Steps in a row beyond the ceiling or the floor that it takes to stop.
    """

    reward_model: str
    prompt_bos: bool
    rollout_batch: int
    rollouts_per_prompt: int
    inner_epochs: int
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
    """A recipe, and where each of its values is from.

    Attributes:
        stage: Which stage's it is.
        name: Its name.
        about: One sentence.
        recipe: The values.
        sources: By field.
        legend: What the short names in the sources stand for.
    """

    stage: Stage
    name: str
    about: str
    recipe: Recipe
    sources: dict[str, str]
    legend: dict[str, str]

    @property
    def sha256(self) -> str:
        """Hash of the values that have an effect on the result; models and data have hashes of their own."""
        values = dataclasses.asdict(self.recipe)
        for key in ("micro_tokens", "activation_checkpointing", "model", "reward_model", "dataset", "split"):
            values.pop(key, None)
        return content_hash(values)
