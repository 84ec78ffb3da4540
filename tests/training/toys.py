"""Tiny models and tasks with a known optimum, for the tests and the processes that they start."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from tulu_eval.training import ppo, recipes, reward_model
from tulu_eval.training.loop import LoopSettings, Trainer
from tulu_eval.training.networks import Batch, Policy, Scorer
from tulu_eval.training.parallel import Ranks
from tulu_eval.training.rewards import Mixture, Reward, RewardSettings
from tulu_eval.training.rollout import PolicyEngine, Rollout
from tulu_eval.training.rows.data import PreferencePair
from tulu_eval.training.stages import PPORecipe, Recipe, Stage
from tulu_eval.training.text import Tokens


def config(vocabulary: int, hidden: int = 32, layers: int = 1) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=layers,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=256, bos_token_id=0, eos_token_id=1,
        pad_token_id=None, num_labels=1,
    )  # fmt: skip


def policy(vocabulary: int, seed: int = 0, *, uniform: bool = False, trained: bool = True, **size: int) -> Policy:
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config(vocabulary, **size))
    if uniform:
        nn.init.zeros_(model.lm_head.weight)
    model.requires_grad_(trained)
    return Policy(model, torch.float32)


def scorer(vocabulary: int, seed: int = 0, *, zero_head: bool = False, trained: bool = True, **size: int) -> Scorer:
    torch.manual_seed(seed)
    model = LlamaForSequenceClassification(config(vocabulary, **size))
    if zero_head:
        nn.init.zeros_(model.score.weight)
    model.requires_grad_(trained)
    return Scorer(model, torch.float32)


def tokens(ids: list[int], answer: int = 0) -> Tokens:
    """Returns a row whose last ``answer`` tokens count."""
    mask = np.arange(len(ids)) >= len(ids) - answer
    return Tokens(np.array(ids, dtype=np.int32), mask)


def recipe(stage: Stage, **changes: Any) -> Any:
    return dataclasses.replace(recipes.load(stage, "tiny").recipe, **changes)


def trainer(
    folder: Path,
    made: Recipe,
    models: dict[str, nn.Module],
    rows: int,
    *,
    per_step: int | None = None,
    updates: int = 1,
    ranks: Ranks | None = None,
    save_every: int = 10**9,
    identity: dict[str, str] | None = None,
) -> Trainer:
    folder.mkdir(parents=True, exist_ok=True)
    settings = LoopSettings(folder, identity or {"recipe": "toy"}, save_every)
    return Trainer(made, ranks or Ranks(), models, rows, per_step or made.batch, updates, settings)


class Optimum(NamedTuple):
    """The optimum of the token-count task, as expectations per response."""

    objective: float
    kl: float
    score: float
    weight: float


def token_count_optimum(vocabulary: int, length: int, beta: float) -> Optimum:
    """Returns the optimum of score = c * count(token a) - beta * KL from uniform, with c = beta ln(K - 1): then p* = 1/2."""
    weight = beta * math.log(vocabulary - 1)
    start = 1 / vocabulary
    total = 1 - start + start * math.exp(weight / beta)
    best = start * math.exp(weight / beta) / total
    kl = best * math.log(best / start) + (1 - best) * math.log((1 - best) / (1 - start))
    return Optimum(length * beta * math.log(total), length * kl, length * weight * best, weight)


class Curve(NamedTuple):
    """Each step's mean score, KL, EOS rate and length."""

    score: list[float]
    kl: list[float]
    eos_rate: list[float]
    length: list[float]

    def objective(self, beta: float, last: int) -> float:
        return float(np.mean(self.score[-last:]) - beta * np.mean(self.kl[-last:]))


TARGET = 3
"""The token to count."""


class Paid(Reward):
    """A reward by a function of the tokens."""

    def __init__(self, pay: Callable[[Batch], Tensor]) -> None:
        self._pay = pay

    @classmethod
    def make(cls, settings: RewardSettings) -> Paid:
        raise NotImplementedError

    def score(self, rollouts: Sequence[Rollout], batch: Batch) -> Tensor:
        return self._pay(batch)


def paid(pay: Callable[[Batch], Tensor], weight: float = 1.0) -> Mixture:
    """Returns a reward by a function alone."""
    return Mixture({"paid": (weight, Paid(pay))})


def count_reward(weight: float) -> Callable[[Batch], Tensor]:
    def reward(batch: Batch) -> Tensor:
        return weight * ((batch.ids == TARGET) & batch.mask).sum(1).float()

    return reward


def run_token_count(
    folder: Path,
    seed: int,
    *,
    vocabulary: int = 29,
    length: int = 8,
    beta: float = 0.05,
    steps: int = 100,
    eos: int | None = None,
    reward: Callable[[Batch], Tensor] | None = None,
    **changes: Any,
) -> Curve:
    """Trains a policy from uniform on the token-count task; with ``eos``, that token ends a response and must come."""
    made: PPORecipe = recipe(
        "ppo", **{
            "seed": seed, "rollout_batch": 64, "batch": 64, "micro_tokens": 4096, "max_new_tokens": length, "temperature": 1.0,
            "top_k": 0, "kl_coef": beta, "learning_rate": 2e-3, "final_learning_rate": 2e-3, "warmup": 0.0, "epochs": steps,
            "no_eos_reward": None if eos is None else -10.0, **changes,
        }
    )  # fmt: skip
    models = ppo.Models(
        policy(vocabulary, seed, uniform=True),
        policy(vocabulary, seed, uniform=True, trained=False),
        scorer(vocabulary, seed + 1, zero_head=True),
        paid(reward or count_reward(token_count_optimum(vocabulary, length, beta).weight)),
    )
    curve = Curve([], [], [], [])

    def report(_step: int, _steps: int, numbers: dict[str, float]) -> None:
        for name in Curve._fields:
            getattr(curve, name).append(numbers[name])

    folder.mkdir(parents=True, exist_ok=True)
    settings = LoopSettings(folder, {}, 10**9, report=report)
    updates = made.rollout_batch // made.batch
    run = Trainer(made, Ranks(), {"policy": models.policy, "value": models.value}, 64, made.rollout_batch, updates, settings)
    engine = PolicyEngine(models.policy, [] if eos is None else [eos], rows=64)
    ppo.train(run, models, engine, [tokens([2])] * 64, made)
    return curve


class Pairs(NamedTuple):
    """Pairs of random answers, labelled at random by the difference of their counts of the target token.

    Attributes:
        pairs: The pairs, each with its chosen answer first.
        bayes_accuracy: Expected share of the labels that the true difference predicts, 0 to 1.
        bayes_loss: Expected negative log-likelihood of the labels under the true difference.
    """

    pairs: list[PreferencePair]
    bayes_accuracy: float
    bayes_loss: float


def gold(answer: np.ndarray[Any, Any]) -> float:
    return float((answer == TARGET).sum())


def labelled_pairs(n: int, seed: int, *, vocabulary: int = 6, length: int = 8, shuffled: bool = False) -> Pairs:
    """Returns n pairs of answers to the prompt [2] whose tokens are uniform over the vocabulary."""
    draw = np.random.default_rng(seed)
    answers = draw.integers(0, vocabulary, (n, 2, length))
    gaps = (answers == TARGET).sum(2)[:, 0] - (answers == TARGET).sum(2)[:, 1]
    chance = 1 / (1 + np.exp(-gaps))
    first = draw.random(n) < (0.5 if shuffled else chance)
    made = []
    for (a, b), a_wins in zip(answers, first, strict=True):
        better, worse = (a, b) if a_wins else (b, a)
        made.append(PreferencePair(tokens([2, *better.tolist()], length), tokens([2, *worse.tolist()], length)))
    sure = np.maximum(chance, 1 - chance)
    loss = -(chance * np.log(chance) + (1 - chance) * np.log(1 - chance))
    return Pairs(made, float(sure.mean()), float(loss.mean()))


def train_reward_model(
    folder: Path, pairs: list[PreferencePair], seed: int = 0, vocabulary: int = 6
) -> tuple[Scorer, list[float]]:
    """Returns a reward model trained on pairs, and its losses."""
    made = recipe("rm", seed=seed, batch=64, micro_tokens=4096, learning_rate=3e-3, final_learning_rate=3e-4)
    model = scorer(vocabulary, seed)
    torch.nn.init.normal_(model.model.score.weight, std=made.head_std)
    losses: list[float] = []
    run = trainer(folder, made, {"reward_model": model}, len(pairs))
    run.settings = dataclasses.replace(run.settings, report=lambda step, steps, numbers: losses.append(numbers["loss"]))
    reward_model.train(run, model, pairs)
    return model, losses
