"""PPO as EasyLM does it (@ dbf2212c, ``llama_train_ppo.py``): rollouts from the policy at a step's start, then mini-batches.

For each mini-batch, with the parameters as they are when its turn comes: log-probabilities of policy and reference, values and
scores; KL in the reward of each token; advantages by GAE, whitened over the mini-batch; one update of policy and value model
for each inner epoch. Old log-probabilities and values are those of the first, so with one inner epoch the ratio is 1, and
nothing is clipped: mini-batches come late by up to seven updates and are not corrected for it. That is the recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    last_token_scores,
    response_mask,
    responses,
    values_before,
)
from tulu_eval.training.parallel import Ranks
from tulu_eval.training.rollout import Rollout, RolloutEngine, roll_out
from tulu_eval.training.speed import Speed
from tulu_eval.training.stages import PPORecipe
from tulu_eval.training.text import Tokens
from tulu_eval.training.watch import Watch

Reward = Callable[[Batch], Tensor]
"""Scores whole rows, prompt and response: [rows]."""


class Models(NamedTuple):
    """The four of PPO; policy and value model are trained."""

    policy: Policy
    reference: Policy
    value: Scorer
    reward: Reward


class ModelOutputs(NamedTuple):
    """What the models say of a mini-batch before its update: [rows, tokens of the longest response], the score [rows]."""

    mask: Tensor
    logprobs: Tensor
    reference: Tensor
    values: Tensor
    score: Tensor


class Target(NamedTuple):
    """What an update is made of: a mini-batch, the models' outputs on it, and what follows from these.

    Attributes:
        mini: The rollouts.
        old: What the models said of them.
        kl: [rows, tokens], the estimate of each token.
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


class RewardModel:
    """The reward that a reward model gives: what it says at the last token.

    Args:
        model: The reward model.
    """

    def __init__(self, model: Scorer) -> None:
        self._model = model
        self.flops = model.flops

    def __call__(self, batch: Batch) -> Tensor:
        """Returns the scores [rows]."""
        return last_token_scores(self._model(batch), batch)


def train(
    trainer: Trainer,
    models: Models,
    engine: RolloutEngine,
    prompts: Sequence[Tokens],
    recipe: PPORecipe,
    watch: Watch | None = None,
) -> None:
    """Trains a policy and its value model on prompts, watched or not."""
    ranks = trainer.ranks
    decoding = Decoding(recipe.max_new_tokens, recipe.temperature, recipe.top_p, recipe.top_k, seed=recipe.seed)
    share = recipe.batch // ranks.world
    for step in trainer.steps():
        with trainer.speed.part("rollout"):
            engine.update(models.policy)
        if watch and watch.due(step):
            watch.ask(step, engine)
        places = [prompts[index] for index in trainer.batch(step) for _ in range(recipe.rollouts_per_prompt)]
        with trainer.speed.part("rollout"):
            rollouts = roll_out(engine, ranks.share(list(enumerate(places))), decoding, recipe.seed, step)
        rows = [rollout.tokens for rollout in rollouts]
        trainer.speed.count(models.policy.flops(rows), sum(float(row.mask.sum()) for row in rows))

        log = Log(ranks)
        for start in range(0, len(rollouts), share):
            mini = rollouts[start : start + share]
            lengths = [len(rollout.tokens) for rollout in mini]
            target, means = trainer.fitting(lengths, partial(targets_and_first_losses, models, recipe, trainer, mini))
            for epoch in range(recipe.inner_epochs):
                if epoch:
                    means = trainer.fitting(lengths, partial(add_gradients, models, recipe, trainer, target))
                loss = means[0] + recipe.value_coef * means[1]
                log.update(trainer.update(loss, [rollout.tokens for rollout in mini]), means)
            log.rollouts(target)
            if watch and not start:
                watch.rollouts(step, mini, target.old.score, torch.where(target.old.mask, target.kl, 0.0).sum(1))

        summary = log.summary()
        trainer.log(step, summary)
        trainer.guard(exceeded_bound(summary, recipe), recipe.patience)
    if watch and not trainer.interrupted:
        engine.update(models.policy)
        watch.ask(trainer.steps_total, engine)


def targets_and_first_losses(
    models: Models, recipe: PPORecipe, trainer: Trainer, mini: list[Rollout], parts: list[list[int]]
) -> tuple[Target, Tensor]:
    """Returns what the updates of a mini-batch are made of, and what :func:`add_gradients` returns of the first inner epoch.

    Where the mini-batch goes through the models at once, the first epoch's backward pass is that of the forward pass which old
    log-probabilities and values are from.
    """
    seen = [
        score_rollouts(models, recipe, trainer.ranks, trainer.speed, [mini[place] for place in part], keep=len(parts) == 1)
        for part in parts
    ]
    target = compute_targets(recipe, trainer.ranks, mini, as_one_batch(seen, parts))
    return target, add_gradients(models, recipe, trainer, target, parts, seen if len(parts) == 1 else [])


def score_rollouts(
    models: Models, recipe: PPORecipe, ranks: Ranks, speed: Speed, part: list[Rollout], *, keep: bool
) -> ModelOutputs:
    """Returns what the models say of a micro-batch, with the parameters as they are now.

    Args:
        models: The four.
        recipe: What is done.
        ranks: Who computes.
        speed: Counts seconds and operations.
        part: The micro-batch.
        keep: Whether the graphs of policy and value model are kept, for their backward pass.
    """
    rows = [rollout.tokens for rollout in part]
    batch = collate(rows, ranks.device)
    finished = torch.tensor([rollout.finished for rollout in part], device=ranks.device)
    speed.count(models.reference.flops(rows) + _flops(models.reward, rows))
    with torch.no_grad():
        with speed.part("reference"):
            reference = responses(models.reference(batch, recipe.logprob_temperature), batch)
        with speed.part("reward"):
            score = rl.apply_eos_rule(models.reward(batch), finished, recipe.no_eos_reward)
    with torch.set_grad_enabled(keep):
        with speed.part("policy"):
            logprobs = responses(models.policy(batch, recipe.logprob_temperature), batch)
        with speed.part("value"):
            values = responses(values_before(models.value(batch)), batch)
    return ModelOutputs(response_mask(batch), logprobs, reference, values, score)


def _flops(reward: Reward, rows: list[Tokens]) -> float:
    return reward.flops(rows) if isinstance(reward, RewardModel) else 0.0


def as_one_batch(parts: Sequence[ModelOutputs], places: Sequence[Sequence[int]]) -> ModelOutputs:
    """Returns micro-batches as one mini-batch without graphs, filled up to its longest response.

    Args:
        parts: The micro-batches.
        places: Of each one's rows in the mini-batch.
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
    )


def compute_targets(recipe: PPORecipe, ranks: Ranks, mini: list[Rollout], old: ModelOutputs) -> Target:
    """Returns what the update of a mini-batch is made of, from what the models said of it."""
    kl = rl.kl_estimate(old.logprobs, old.reference)
    score = rl.scale_score(old.score, recipe.reward_gain, recipe.reward_bias)
    rewards = rl.shape_rewards(score, kl, old.mask, recipe.kl_coef)
    if recipe.whiten_rewards:
        rewards = rl.whiten_rewards(rewards, old.mask, ranks.sum)
    advantages, returns = rl.gae(rewards, old.values, old.mask, recipe.gamma, recipe.gae_lambda)
    whitened = rl.whiten(advantages, old.mask, ranks.sum)
    return Target(mini, old, kl, whitened, returns, ranks.sum(old.mask.sum().float()))


def add_gradients(
    models: Models,
    recipe: PPORecipe,
    trainer: Trainer,
    target: Target,
    parts: list[list[int]],
    kept: Sequence[ModelOutputs] = (),
) -> Tensor:
    """Adds the gradients of a mini-batch; returns policy loss, value loss, clip fraction, approximate KL of this rank's rows.

    Args:
        models: The four.
        recipe: What is done.
        trainer: By whom.
        target: The mini-batch.
        parts: Places of each micro-batch's rows in it.
        kept: What the models said of each, with graphs; none: they are asked.
    """
    sums = [
        _add_gradients_of_part(models, recipe, trainer, target, part, kept[place] if kept else None)
        for place, part in enumerate(parts)
    ]
    return torch.stack(sums).sum(0)


def _add_gradients_of_part(
    models: Models, recipe: PPORecipe, trainer: Trainer, target: Target, part: list[int], kept: ModelOutputs | None
) -> Tensor:
    ranks, speed, rows = trainer.ranks, trainer.speed, [target.mini[place].tokens for place in part]
    batch = collate(rows, ranks.device)
    mask = response_mask(batch)
    old_logprobs, old_values, advantages, returns = (
        x[part, : mask.shape[1]] for x in (target.old.logprobs, target.old.values, target.advantages, target.returns)
    )
    speed.count(3 * (models.policy.flops(rows) + models.value.flops(rows)))
    with speed.part("policy"):
        logprobs = kept.logprobs if kept else responses(models.policy(batch, recipe.logprob_temperature), batch)
        policy_loss = rl.masked_mean(rl.policy_loss(logprobs, old_logprobs, advantages, recipe.clip), mask, target.tokens)
        ranks.backward(policy_loss)
    with speed.part("value"):
        values = kept.values if kept else responses(values_before(models.value(batch)), batch)
        value_loss = rl.masked_mean(rl.value_loss(values, old_values, returns, recipe.value_clip), mask, target.tokens)
        ranks.backward(recipe.value_coef * value_loss)
    moved = torch.where(mask, (logprobs - old_logprobs).detach(), 0.0)
    clipped = ((moved.exp() - 1).abs() > recipe.clip).sum() / target.tokens
    return torch.stack([policy_loss.detach(), value_loss.detach(), clipped, 0.5 * moved.square().sum() / target.tokens])


def exceeded_bound(summary: dict[str, float], recipe: PPORecipe) -> str:
    """Returns the bound of the recipe that a step's means exceed, with both values; empty if none."""
    if summary["kl"] > recipe.kl_ceiling:
        return f"mean KL {summary['kl']:.1f} nats a response is over kl_ceiling = {recipe.kl_ceiling}"
    if summary["eos_rate"] < recipe.eos_floor:
        return f"EOS rate {summary['eos_rate']:.3f} is under eos_floor = {recipe.eos_floor}"
    return ""


class Log:
    """A step's numbers, as means over all its responses or tokens on all ranks: never means of means."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._sums = torch.zeros(7, dtype=torch.float64)
        self._parts: list[Tensor] = []
        self._numbers: list[dict[str, float]] = []
        self._explained: list[float] = []

    def update(self, numbers: dict[str, float], parts: Tensor) -> None:
        """Takes in what one update says."""
        self._numbers.append(numbers)
        self._parts.append(parts.detach().double().cpu())

    def rollouts(self, target: Target) -> None:
        """Takes in one mini-batch's rollouts."""
        old, mask = target.old, target.old.mask
        score = old.score.double()
        sums = (
            torch.tensor(float(len(target.mini))),
            mask.sum(),
            torch.where(mask, target.kl, 0.0).double().sum(),
            torch.tensor(float(sum(rollout.finished for rollout in target.mini))),
            score.sum(),
            score.square().sum(),
            torch.where(mask, -old.logprobs, 0.0).double().sum(),
        )
        self._sums += torch.stack([x.double().cpu() for x in sums])
        self._explained.append(rl.explained_variance(old.values, target.returns, mask, self._ranks.sum))

    def summary(self) -> dict[str, float]:
        """Returns the means by name."""
        device = self._ranks.device
        rows, tokens, kl, finished, score, squares, surprise = self._ranks.sum(self._sums.to(device)).tolist()
        parts = self._ranks.sum(torch.stack(self._parts).mean(0).to(device)).tolist()
        last = self._numbers[-1]
        return {
            **{key: sum(one[key] for one in self._numbers) / len(self._numbers) for key in last if key != "learning_rate"},
            "learning_rate": last["learning_rate"],
            "score": score / rows,
            "score_deviation": max(squares / rows - (score / rows) ** 2, 0.0) ** 0.5,
            "kl": kl / rows,
            "kl_per_token": kl / tokens,
            "eos_rate": finished / rows,
            "length": tokens / rows,
            "entropy": surprise / tokens,
            "tokens": tokens,
            **dict(zip(("policy_loss", "value_loss", "clip_fraction", "approximate_kl"), parts, strict=True)),
            "explained_variance": sum(self._explained) / len(self._explained),
        }
