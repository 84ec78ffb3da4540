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
from tulu_eval.training import math as rl
from tulu_eval.training.loop import Trainer
from tulu_eval.training.models import Batch, Policy, Scorer, collate, last_token_scores, response_mask, responses, values_before
from tulu_eval.training.parallel import Ranks
from tulu_eval.training.recipe import PPORecipe
from tulu_eval.training.rollout import Engine, Rollout, roll_out
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


class Seen(NamedTuple):
    """What the models say of a mini-batch before its update: [rows, tokens of the longest response], the score [rows]."""

    mask: Tensor
    logprobs: Tensor
    reference: Tensor
    values: Tensor
    score: Tensor


class Target(NamedTuple):
    """What an update is made of: a mini-batch, what was seen of it, and what follows from that.

    Attributes:
        mini: The rollouts.
        old: What the models said of them.
        advantages: [rows, tokens], whitened over all ranks.
        returns: [rows, tokens].
        tokens: Number of response tokens on all ranks.
    """

    mini: list[Rollout]
    old: Seen
    advantages: Tensor
    returns: Tensor
    tokens: Tensor


def reward_of(model: Scorer) -> Reward:
    """Returns the reward that a reward model gives: what it says at the last token."""
    return lambda batch: last_token_scores(model(batch), batch)


def train(
    trainer: Trainer,
    models: Models,
    engine: Engine,
    prompts: Sequence[Tokens],
    recipe: PPORecipe,
    watch: Watch | None = None,
) -> None:
    """Trains a policy and its value model on prompts, watched or not."""
    ranks = trainer.ranks
    decoding = Decoding(recipe.max_new_tokens, recipe.temperature, recipe.top_p, recipe.top_k, seed=recipe.seed)
    share = recipe.batch // ranks.world
    for step in trainer.steps():
        engine.update(models.policy)
        if watch and watch.due(step):
            watch.ask(step, engine)
        places = [prompts[index] for index in trainer.batch(step) for _ in range(recipe.rollouts_per_prompt)]
        rollouts = roll_out(engine, ranks.share(list(enumerate(places))), decoding, recipe.seed, step)

        log = Log(ranks)
        for start in range(0, len(rollouts), share):
            mini = rollouts[start : start + share]
            old = join(trainer.micro_batches(mini, partial(look, models, recipe, ranks)))

            kl = rl.kl_estimate(old.logprobs, old.reference)
            score = rl.scale_score(old.score, recipe.reward_gain, recipe.reward_bias)
            rewards = rl.shape_rewards(score, kl, old.mask, recipe.kl_coef)
            if recipe.whiten_rewards:
                rewards = rl.whiten_rewards(rewards, old.mask, ranks.sum)
            advantages, returns = rl.gae(rewards, old.values, old.mask, recipe.gamma, recipe.gae_lambda)
            whitened = rl.whiten(advantages, old.mask, ranks.sum)
            target = Target(mini, old, whitened, returns, ranks.sum(old.mask.sum().float()))

            for _ in range(recipe.inner_epochs):
                parts = trainer.micro_batches(list(range(len(mini))), partial(learn, models, recipe, ranks, target))
                means = torch.stack(parts).sum(0)
                loss = means[0] + recipe.value_coef * means[1]
                log.update(trainer.update(loss, [rollout.tokens for rollout in mini]), means)
            log.rollouts(target, kl)
            if watch and not start:
                watch.rollouts(step, mini, old.score, torch.where(old.mask, kl, 0.0).sum(1))

        summary = log.summary()
        trainer.log(step, summary)
        trainer.guard(beyond(summary, recipe), recipe.patience)
    if watch and not trainer.interrupted:
        engine.update(models.policy)
        watch.ask(trainer.steps_total, engine)


@torch.no_grad()
def look(models: Models, recipe: PPORecipe, ranks: Ranks, part: list[Rollout]) -> Seen:
    """Returns what the models say of a micro-batch, with the parameters as they are now."""
    batch = collate([rollout.tokens for rollout in part], ranks.device)
    finished = torch.tensor([rollout.finished for rollout in part], device=ranks.device)
    return Seen(
        mask=response_mask(batch),
        logprobs=responses(models.policy(batch, recipe.logprob_temperature), batch),
        reference=responses(models.reference(batch, recipe.logprob_temperature), batch),
        values=responses(values_before(models.value(batch)), batch),
        score=rl.apply_eos_rule(models.reward(batch), finished, recipe.no_eos_reward),
    )


def learn(models: Models, recipe: PPORecipe, ranks: Ranks, target: Target, part: list[int]) -> Tensor:
    """Adds the gradients of a micro-batch; returns its part of policy loss, value loss, clip fraction, approximate KL.

    Args:
        models: The four.
        recipe: What is done.
        ranks: By whom.
        target: The mini-batch.
        part: Places of the micro-batch's rows in it.
    """
    batch = collate([target.mini[place].tokens for place in part], ranks.device)
    mask = response_mask(batch)
    old_logprobs, old_values, advantages, returns = (
        x[part, : mask.shape[1]] for x in (target.old.logprobs, target.old.values, target.advantages, target.returns)
    )
    logprobs = responses(models.policy(batch, recipe.logprob_temperature), batch)
    values = responses(values_before(models.value(batch)), batch)
    policy_loss = rl.masked_mean(rl.policy_loss(logprobs, old_logprobs, advantages, recipe.clip), mask, target.tokens)
    value_loss = rl.masked_mean(rl.value_loss(values, old_values, returns, recipe.value_clip), mask, target.tokens)
    ranks.backward(policy_loss + recipe.value_coef * value_loss)
    moved = torch.where(mask, (logprobs - old_logprobs).detach(), 0.0)
    clipped = ((moved.exp() - 1).abs() > recipe.clip).sum() / target.tokens
    return torch.stack([policy_loss.detach(), value_loss.detach(), clipped, 0.5 * moved.square().sum() / target.tokens])


def join(parts: Sequence[Seen]) -> Seen:
    """Returns micro-batches as one mini-batch, filled up to its longest response."""
    longest = max(part.mask.shape[1] for part in parts)

    def wide(column: Sequence[Tensor]) -> Tensor:
        return torch.cat([functional.pad(x, (0, longest - x.shape[1])) for x in column])

    return Seen(
        mask=wide([part.mask for part in parts]),
        logprobs=wide([part.logprobs for part in parts]),
        reference=wide([part.reference for part in parts]),
        values=wide([part.values for part in parts]),
        score=torch.cat([part.score for part in parts]),
    )


def beyond(summary: dict[str, float], recipe: PPORecipe) -> str:
    """Returns which of the recipe's bounds a step's means are beyond, empty where none."""
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

    def rollouts(self, target: Target, kl: Tensor) -> None:
        """Takes in one mini-batch's rollouts, with the KL estimate of each token."""
        old, mask = target.old, target.old.mask
        score = old.score.double()
        sums = (
            torch.tensor(float(len(target.mini))),
            mask.sum(),
            torch.where(mask, kl, 0.0).double().sum(),
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
