"""PPO like EasyLM's (@ dbf2212c, ``llama_train_ppo.py``): rollouts from the policy at a step's start, then mini-batches.

A mini-batch gets, with the current parameters: log-probabilities of policy and reference, values and scores; KL in the reward
of each token; advantages by GAE, whitened over the mini-batch; one update of policy and value model per inner epoch. EasyLM's
inner epochs compute all that anew; those of ``inner_order = "mini-batch"`` keep the log-probabilities and values of the first.
So with EasyLM's order, or with one inner epoch, the ratio is 1 and nothing is clipped; the last mini-batch's rollouts are up to
seven updates old, which the recipe does not correct.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from tulu_eval.records import Decoding
from tulu_eval.training import formulas as rl
from tulu_eval.training.loop import Trainer
from tulu_eval.training.networks import (
    Batch,
    Policy,
    Scorer,
    collate,
    response_mask,
    responses,
    values_before,
)
from tulu_eval.training.parallel import Ranks
from tulu_eval.training.rewards import Mixture
from tulu_eval.training.rollout import Rollout, RolloutEngine, roll_out
from tulu_eval.training.stages import PPORecipe
from tulu_eval.training.step_means import StepMeans
from tulu_eval.training.text import Tokens
from tulu_eval.training.watching.speed import Speed
from tulu_eval.training.watching.watch import Watch


class Models(NamedTuple):
    """The four models of PPO, which trains the policy and the value model."""

    policy: Policy
    reference: Policy
    value: Scorer
    reward: Mixture


class ModelOutputs(NamedTuple):
    """The models' outputs for rollouts before an update: [rows, tokens of the longest response].

    Attributes:
        score: [rows], after the rule for missing end tokens.
        parts: [rows, rewards], each reward's own score.
    """

    mask: Tensor
    logprobs: Tensor
    reference: Tensor
    values: Tensor
    score: Tensor
    parts: Tensor


class Target(NamedTuple):
    """The input of an update: a mini-batch, the models' outputs for it, and the targets from these.

    Attributes:
        old: The models' outputs before the first update.
        kl: [rows, tokens], the KL estimate at each token.
        advantages: [rows, tokens], whitened over all ranks.
        returns: [rows, tokens].
        tokens: Number of response tokens on all ranks.
    """

    mini: list[Rollout]
    old: ModelOutputs
    kl: Tensor
    advantages: Tensor
    returns: Tensor
    tokens: Tensor


class Losses(NamedTuple):
    """The losses of a mini-batch on this rank, without gradients; the parts of all ranks add up. Each is one number.

    Attributes:
        clip_fraction: Share of the tokens whose probability ratio is outside the clip range.
        approximate_kl: Half the mean square of the change of the log-probabilities.
    """

    policy_loss: Tensor
    value_loss: Tensor
    clip_fraction: Tensor
    approximate_kl: Tensor


class Exceeded(NamedTuple):
    """A bound that a step exceeded.

    Attributes:
        reason: The bound with both values; empty if there is none.
        patience: Number of such steps in a row that stop the run.
        instead: The option that removes the bound.
    """

    reason: str
    patience: int
    instead: str


@dataclasses.dataclass(frozen=True, slots=True)
class Learner:
    """Computes targets and gradients with the models' current parameters."""

    models: Models
    recipe: PPORecipe
    ranks: Ranks
    speed: Speed

    def targets_and_first_losses(self, mini: list[Rollout], parts: list[list[int]]) -> tuple[Target, Losses]:
        """Returns the targets of a mini-batch, and the losses of its first inner epoch, whose gradients it adds.

        If the whole mini-batch fits into one micro-batch, the first epoch's backward pass uses the forward pass of the old
        log-probabilities and values. ``parts`` has the places of each micro-batch's rows in the mini-batch.
        """
        one = len(parts) == 1
        seen = [self.score_rollouts([mini[place] for place in part], keep=one) for part in parts]
        target = self.compute_targets(mini, as_one_batch(seen, parts))
        return target, self.add_gradients(target, parts, seen if one else [])

    def score_rollouts(self, part: list[Rollout], *, keep: bool) -> ModelOutputs:
        """Returns the models' outputs for a micro-batch; with ``keep``, with the graphs of policy and value model."""
        models, recipe, speed = self.models, self.recipe, self.speed
        rows = [rollout.tokens for rollout in part]
        batch = collate(rows, self.ranks.device)
        finished = torch.tensor([rollout.finished for rollout in part], device=self.ranks.device)
        speed.count(models.reference.flops(rows) + models.reward.flops(rows))
        with torch.no_grad():
            with speed.part("reference"):
                reference = responses(models.reference(batch, recipe.logprob_temperature), batch)
            with speed.part("reward"):
                parts = models.reward.parts(part, batch)
                score = rl.apply_eos_rule(models.reward.total(parts), finished, recipe.no_eos_reward)
        with torch.set_grad_enabled(keep):
            with speed.part("policy"):
                logprobs = self._logprobs(batch)
            with speed.part("value"):
                values = self._values(batch)
        return ModelOutputs(response_mask(batch), logprobs, reference, values, score, parts)

    def _logprobs(self, batch: Batch) -> Tensor:
        return responses(self.models.policy(batch, self.recipe.logprob_temperature), batch)

    def _values(self, batch: Batch) -> Tensor:
        return responses(values_before(self.models.value(batch)), batch)

    def compute_targets(self, mini: list[Rollout], old: ModelOutputs) -> Target:
        """Returns the targets of a mini-batch from the models' outputs."""
        recipe, ranks = self.recipe, self.ranks
        kl = rl.kl_estimate(old.logprobs, old.reference)
        score = rl.scale_score(old.score, recipe.reward_gain, recipe.reward_bias)
        rewards = rl.shape_rewards(score, kl, old.mask, recipe.kl_coef)
        if recipe.whiten_rewards:
            rewards = rl.whiten_rewards(rewards, old.mask, ranks.sum)
        advantages, returns = rl.gae(rewards, old.values, old.mask, recipe.gamma, recipe.gae_lambda)
        whitened = rl.whiten(advantages, old.mask, ranks.sum)
        return Target(mini, old, kl, whitened, returns, ranks.sum(old.mask.sum().float()))

    def add_gradients(self, target: Target, parts: list[list[int]], kept: Sequence[ModelOutputs] = ()) -> Losses:
        """Adds the gradients of a mini-batch; returns the losses.

        ``parts`` has the places of each micro-batch's rows in it, ``kept`` the outputs of each, with graphs; empty to compute
        them.
        """
        sums = [self._add_gradients_of_part(target, part, kept[at] if kept else None) for at, part in enumerate(parts)]
        return Losses(*torch.stack([torch.stack(part) for part in sums]).sum(0))

    def _add_gradients_of_part(self, target: Target, part: list[int], kept: ModelOutputs | None) -> Losses:
        models, recipe, ranks, speed = self.models, self.recipe, self.ranks, self.speed
        rows = [target.mini[place].tokens for place in part]
        batch = collate(rows, ranks.device)
        mask = response_mask(batch)
        old_logprobs, old_values, advantages, returns = (
            x[part, : mask.shape[1]] for x in (target.old.logprobs, target.old.values, target.advantages, target.returns)
        )
        speed.count(3 * (models.policy.flops(rows) + models.value.flops(rows)))
        with speed.part("policy"):
            logprobs = kept.logprobs if kept else self._logprobs(batch)
            policy_loss = rl.masked_mean(rl.policy_loss(logprobs, old_logprobs, advantages, recipe.clip), mask, target.tokens)
            ranks.backward(policy_loss)
        with speed.part("value"):
            values = kept.values if kept else self._values(batch)
            value_loss = rl.masked_mean(rl.value_loss(values, old_values, returns, recipe.value_clip), mask, target.tokens)
            ranks.backward(recipe.value_coef * value_loss)
        moved = torch.where(mask, (logprobs - old_logprobs).detach(), 0.0)
        clipped = ((moved.exp() - 1).abs() > recipe.clip).sum() / target.tokens
        return Losses(policy_loss.detach(), value_loss.detach(), clipped, 0.5 * moved.square().sum() / target.tokens)


def as_one_batch(parts: Sequence[ModelOutputs], places: Sequence[Sequence[int]]) -> ModelOutputs:
    """Returns the outputs of micro-batches as those of one mini-batch, without graphs, padded to the longest response.

    ``places`` has the places of each micro-batch's rows in the mini-batch.
    """
    longest = max(part.mask.shape[1] for part in parts)
    order = torch.tensor([place for part in places for place in part], device=parts[0].mask.device).argsort()

    def wide(column: Sequence[Tensor]) -> Tensor:
        return torch.cat([functional.pad(x.detach(), (0, longest - x.shape[1])) for x in column])[order]

    return ModelOutputs(
        mask=wide([part.mask for part in parts]),
        logprobs=wide([part.logprobs for part in parts]),
        reference=wide([part.reference for part in parts]),
        values=wide([part.values for part in parts]),
        score=torch.cat([part.score for part in parts])[order],
        parts=torch.cat([part.parts for part in parts])[order],
    )


def train(
    trainer: Trainer,
    models: Models,
    engine: RolloutEngine,
    prompts: Sequence[Tokens],
    recipe: PPORecipe,
    watch: Watch | None = None,
) -> None:
    """Trains a policy and its value model on prompts."""
    ranks = trainer.ranks
    learner = Learner(models, recipe, ranks, trainer.speed)
    decoding = Decoding(recipe.max_new_tokens, recipe.temperature, recipe.top_p, recipe.top_k, seed=recipe.seed)
    share = recipe.batch // ranks.world
    for step in trainer.steps():
        with trainer.speed.part("weights"):
            moved = engine.update(models.policy)
        if watch and watch.due(step):
            watch.ask(step, engine)
        places = [prompts[index] for index in trainer.batch(step) for _ in range(recipe.rollouts_per_prompt)]
        with trainer.speed.part("rollout"):
            rollouts = roll_out(engine, ranks.share(list(enumerate(places))), decoding, recipe.seed, step)
            engine.rest()
        rows = [rollout.tokens for rollout in rollouts]
        trainer.speed.count(models.policy.flops(rows), sum(float(row.mask.sum()) for row in rows))

        means = StepMeans(ranks, models.reward.names)
        passes, repeats = (recipe.inner_epochs, 1) if recipe.inner_order == "rollouts" else (1, recipe.inner_epochs)
        for at, start in enumerate(list(range(0, len(rollouts), share)) * passes):
            mini = rollouts[start : start + share]
            lengths = [len(rollout.tokens) for rollout in mini]
            target, sums = trainer.micro.fitting(lengths, partial(learner.targets_and_first_losses, mini))
            for epoch in range(repeats):
                if epoch:
                    sums = trainer.micro.fitting(lengths, partial(learner.add_gradients, target))
                loss = sums.policy_loss + recipe.value_coef * sums.value_loss
                means.add_update(trainer.update(loss, [rollout.tokens for rollout in mini]), sums)
            if at * share < len(rollouts):
                means.add_rollouts(target)
            if watch and not at:
                watch.rollouts(step, mini, target.old.score, torch.where(target.old.mask, target.kl, 0.0).sum(1))

        summary = means.summary() | ({"weight_bytes": moved} if moved else {})
        trainer.log(step, summary)
        trainer.guard(*exceeded_bound(summary, recipe))
    if watch and not trainer.interrupted:
        engine.update(models.policy)
        watch.ask(trainer.steps_total, engine)


def exceeded_bound(summary: dict[str, float], recipe: PPORecipe) -> Exceeded:
    """Returns the bound of the recipe that a step's means exceed; one without a reason if there is none."""
    kl, eos_rate = summary["kl"], summary["eos_rate"]
    if kl > recipe.kl_ceiling:
        reason = f"mean KL {kl:.1f} nats per response is over kl_ceiling = {recipe.kl_ceiling}"
        return Exceeded(reason, recipe.patience, f"--set kl_ceiling={math.ceil(2 * kl)}")
    if eos_rate < recipe.eos_floor:
        reason = f"EOS rate {eos_rate:.3f} is under eos_floor = {recipe.eos_floor}"
        return Exceeded(reason, recipe.patience, "--set eos_floor=0")
    return Exceeded("", recipe.patience, "")
