"""What a reward model and a policy learned, measured on pairs and prompts that were held out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch

from tulu_eval.records import Decoding
from tulu_eval.stats import mean_interval, wilson
from tulu_eval.training import loading, ppo, reward_model
from tulu_eval.training.data import PreferencePair
from tulu_eval.training.networks import Policy, Scorer
from tulu_eval.training.parallel import Ranks
from tulu_eval.training.rollout import PolicyEngine, roll_out
from tulu_eval.training.speed import Speed
from tulu_eval.training.stages import PPORecipe
from tulu_eval.training.text import Tokens

HELD_OUT = 1 << 30
"""The step whose draws the rollouts on held-out prompts have: one that no run gets to."""

ROWS = 64
"""Rows that go through a model at once."""


@torch.no_grad()
def accuracy(scorer: Scorer, pairs: Sequence[PreferencePair]) -> dict[str, float]:
    """Returns on how many pairs the chosen side scores higher, with a 95 % interval, in percent."""
    device, right = torch.device("cpu"), 0
    for start in range(0, len(pairs), ROWS):
        better, worse = reward_model.pair_scores(scorer, pairs[start : start + ROWS], device)
        right += int((better > worse).sum())
    return share(right, len(pairs))


def share(k: int, n: int) -> dict[str, float]:
    """Returns k of n in percent with its Wilson interval."""
    interval = wilson(k, n)
    return {"value": 100 * k / n, "low": 100 * interval.low, "high": 100 * interval.high, "n": n}


def mean(values: Sequence[float]) -> dict[str, float]:
    """Returns a mean with its 95 % interval by the normal approximation."""
    interval = mean_interval(fmean(values), stdev(values) / math.sqrt(len(values)))
    return {"value": fmean(values), "low": interval.low, "high": interval.high, "n": len(values)}


def policies(
    folders: Mapping[str, Path],
    reward: Path,
    prompts: Sequence[Tokens],
    recipe: PPORecipe,
    tokenizer: Any,
    follows: Callable[[str], bool],
) -> dict[str, Any]:
    """Samples answers of two policies to the same prompts, with the same draws, and scores them as training does.

    Args:
        folders: The start and the trained policy, by name, in this order; divergence is counted from the start.
        reward: The reward model.
        prompts: Held-out prompts.
        recipe: How to sample and score.
        tokenizer: Of all models.
        follows: The rule that the pairs were made by: whether a whole answer that ended is as it should be.

    Returns:
        For each policy its reward, KL from the start, EOS rate, length and the share that follows the rule, each with n and a
        95 % interval; and under ``difference`` the paired difference of the rewards.
    """
    how: dict[str, Any] = {"compute": recipe.compute_dtype, "trained": False}
    scorer = loading.load_scorer(reward, **how)
    loaded = {name: loading.load_policy(folder, **how) for name, folder in folders.items()}
    start = next(iter(loaded.values()))
    found: dict[str, Any] = {}
    rewards = []
    for name, policy in loaded.items():
        four = ppo.Models(policy, start, scorer, ppo.RewardModel(scorer))
        own, found[name] = _answers(four, prompts, recipe, tokenizer, follows)
        rewards.append(own)
    found["difference"] = mean([b - a for a, b in zip(*rewards, strict=True)])
    return found


def _answers(
    four: ppo.Models, prompts: Sequence[Tokens], recipe: PPORecipe, tokenizer: Any, follows: Callable[[str], bool]
) -> tuple[list[float], dict[str, Any]]:
    policy: Policy = four.policy
    engine = PolicyEngine(policy, [int(tokenizer.eos_token_id)], ROWS)
    decoding = Decoding(recipe.max_new_tokens, recipe.temperature, recipe.top_p, recipe.top_k, seed=recipe.seed)
    rollouts = roll_out(engine, list(enumerate(prompts)), decoding, recipe.seed, HELD_OUT)
    speed = Speed(Ranks(), recipe.compute_dtype)
    rewards: list[float] = []
    divergence: list[float] = []
    for at in range(0, len(rollouts), ROWS):
        seen = ppo.score_rollouts(four, recipe, Ranks(), speed, rollouts[at : at + ROWS], keep=False)
        rewards += seen.score.tolist()
        divergence += torch.where(seen.mask, seen.logprobs - seen.reference, 0.0).sum(1).tolist()
    answers = [one.tokens.ids[one.tokens.mask].tolist() for one in rollouts]
    texts = [str(tokenizer.decode(ids, skip_special_tokens=True)) for ids in answers]
    n = len(rollouts)
    return rewards, {
        "reward": mean(rewards),
        "kl": mean(divergence),
        "eos_rate": share(sum(one.finished for one in rollouts), n),
        "follows_the_rule": share(sum(one.finished and follows(text) for one, text in zip(rollouts, texts, strict=True)), n),
        "length": mean([float(len(ids)) for ids in answers]),
        "samples": texts[:5],
    }
