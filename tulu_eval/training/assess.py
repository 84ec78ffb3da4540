"""Measures what a reward model and a policy learned, on held-out pairs and prompts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch

from tulu_eval import files
from tulu_eval.records import Decoding
from tulu_eval.stats import mean_interval, wilson
from tulu_eval.training import loading, ppo, reward_model
from tulu_eval.training.networks import Policy, Scorer
from tulu_eval.training.parallel import Ranks
from tulu_eval.training.rewards import Mixture
from tulu_eval.training.rollout import PolicyEngine, roll_out
from tulu_eval.training.rows.data import PreferencePair
from tulu_eval.training.stages import PPORecipe
from tulu_eval.training.text import Tokens
from tulu_eval.training.watching.speed import Speed

HELD_OUT = 1 << 30
"""The rollouts on held-out prompts have the draws of this step, which no run reaches."""

ROWS = 64
"""Rows that go through a model at once."""


class HeldOutNumber(files.Record, frozen=True):
    """A mean, or a share in percent, of ``n`` values with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int


class PolicyMeasures(files.Record, frozen=True):
    """What a policy's sampled answers to held-out prompts came to.

    Attributes:
        kl: KL from the start in nats per response.
        eos_rate: Share of the answers that end with an end token.
        follows_the_rule: Share of the answers that end and follow the rule.
        length: Tokens per response.
        samples: The first five answers.
    """

    reward: HeldOutNumber
    kl: HeldOutNumber
    eos_rate: HeldOutNumber
    follows_the_rule: HeldOutNumber
    length: HeldOutNumber
    samples: list[str]


@torch.no_grad()
def accuracy(scorer: Scorer, pairs: Sequence[PreferencePair]) -> HeldOutNumber:
    """Returns the share of the pairs whose chosen side has the higher score."""
    device, right = torch.device("cpu"), 0
    for start in range(0, len(pairs), ROWS):
        better, worse = reward_model.pair_scores(scorer, pairs[start : start + ROWS], device)
        right += int((better > worse).sum())
    return share(right, len(pairs))


def share(k: int, n: int) -> HeldOutNumber:
    """Returns k of n in percent with its Wilson interval."""
    interval = wilson(k, n)
    return HeldOutNumber(100 * k / n, 100 * interval.low, 100 * interval.high, n)


def mean(values: Sequence[float]) -> HeldOutNumber:
    """Returns a mean with its interval by the normal approximation."""
    interval = mean_interval(fmean(values), stdev(values) / math.sqrt(len(values)))
    return HeldOutNumber(fmean(values), interval.low, interval.high, len(values))


def policies(
    folders: Mapping[str, Path],
    reward: Path,
    prompts: Sequence[Tokens],
    recipe: PPORecipe,
    tokenizer: Any,
    follows: Callable[[str], bool],
) -> tuple[dict[str, PolicyMeasures], HeldOutNumber]:
    """Samples answers of two policies to the same prompts, with the same draws, and scores them as training does.

    ``folders`` has the start's and the trained policy's by name, in this order; ``follows`` says whether a whole answer follows
    the rule by which the pairs were made.

    Returns:
        The measures of each policy by name, and the mean difference of the rewards on the same prompts.
    """
    compute = recipe.compute_dtype
    scorer = loading.load_scorer(reward, compute=compute, trained=False)
    loaded = {name: loading.load_policy(folder, compute=compute, trained=False) for name, folder in folders.items()}
    start = next(iter(loaded.values()))
    found: dict[str, PolicyMeasures] = {}
    rewards = []
    for name, policy in loaded.items():
        four = ppo.Models(policy, start, scorer, Mixture.of_model(scorer))
        own, found[name] = _answers(four, prompts, recipe, tokenizer, follows)
        rewards.append(own)
    return found, mean([b - a for a, b in zip(*rewards, strict=True)])


def _answers(
    four: ppo.Models, prompts: Sequence[Tokens], recipe: PPORecipe, tokenizer: Any, follows: Callable[[str], bool]
) -> tuple[list[float], PolicyMeasures]:
    policy: Policy = four.policy
    engine = PolicyEngine(policy, [int(tokenizer.eos_token_id)], ROWS)
    decoding = Decoding(recipe.max_new_tokens, recipe.temperature, recipe.top_p, recipe.top_k, seed=recipe.seed)
    rollouts = roll_out(engine, list(enumerate(prompts)), decoding, recipe.seed, HELD_OUT)
    learner = ppo.Learner(four, recipe, Ranks(), Speed(Ranks(), recipe.compute_dtype))
    rewards: list[float] = []
    divergence: list[float] = []
    for at in range(0, len(rollouts), ROWS):
        seen = learner.score_rollouts(rollouts[at : at + ROWS], keep=False)
        rewards += seen.score.tolist()
        divergence += torch.where(seen.mask, seen.logprobs - seen.reference, 0.0).sum(1).tolist()
    answers = [one.tokens.ids[one.tokens.mask].tolist() for one in rollouts]
    texts = [str(tokenizer.decode(ids, skip_special_tokens=True)) for ids in answers]
    n = len(rollouts)
    return rewards, PolicyMeasures(
        reward=mean(rewards),
        kl=mean(divergence),
        eos_rate=share(sum(one.finished for one in rollouts), n),
        follows_the_rule=share(sum(one.finished and follows(text) for one, text in zip(rollouts, texts, strict=True)), n),
        length=mean([float(len(ids)) for ids in answers]),
        samples=texts[:5],
    )
