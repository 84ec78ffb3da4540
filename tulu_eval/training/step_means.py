"""The numbers of a step of PPO: means over all its responses or tokens on all ranks, never means of means."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tulu_eval.training.formulas import explained_variance
from tulu_eval.training.parallel import Ranks

if TYPE_CHECKING:
    from tulu_eval.training.ppo import Losses, Target

_SUMS = ("rows", "tokens", "kl", "finished", "score", "score_squared", "surprise")
"""Sums over the responses of a step: how many, their tokens, KL, ends, scores, squared scores and ``-log p``."""


class StepMeans:
    """Collects the numbers of one step.

    Args:
        rewards: Names of the rewards, whose means it gives too.
    """

    def __init__(self, ranks: Ranks, rewards: tuple[str, ...]) -> None:
        self._ranks, self._rewards = ranks, tuple(f"reward_{name}" for name in rewards)
        self._sums = torch.zeros(len(_SUMS) + len(rewards), dtype=torch.float64)
        self._losses: list[Tensor] = []
        self._numbers: list[dict[str, float]] = []
        self._explained: list[float] = []

    def add_update(self, numbers: dict[str, float], losses: Losses) -> None:
        """Adds an update: the numbers of the trainer, and the losses of this rank."""
        self._numbers.append(numbers)
        self._losses.append(torch.stack(losses).detach().double().cpu())

    def add_rollouts(self, target: Target) -> None:
        """Adds the rollouts of one mini-batch."""
        old, mask = target.old, target.old.mask
        score = old.score.double()
        sums = {
            "rows": torch.tensor(float(len(target.mini))),
            "tokens": mask.sum(),
            "kl": torch.where(mask, target.kl, 0.0).double().sum(),
            "finished": torch.tensor(float(sum(rollout.finished for rollout in target.mini))),
            "score": score.sum(),
            "score_squared": score.square().sum(),
            "surprise": torch.where(mask, -old.logprobs, 0.0).double().sum(),
        }
        self._sums += torch.cat([torch.stack([sums[name].double().cpu() for name in _SUMS]), old.parts.double().sum(0).cpu()])
        self._explained.append(explained_variance(old.values, target.returns, mask, self._ranks.sum))

    def summary(self) -> dict[str, float]:
        """Returns the means by name, as ``metrics.jsonl`` has them (:mod:`~tulu_eval.training.watching.metrics`)."""
        device = self._ranks.device
        total = dict(zip((*_SUMS, *self._rewards), self._ranks.sum(self._sums.to(device)).tolist(), strict=True))
        rows, tokens = total["rows"], total["tokens"]
        losses = self._ranks.sum(torch.stack(self._losses).mean(0).to(device)).tolist()
        last = self._numbers[-1]
        return {
            **{key: sum(one[key] for one in self._numbers) / len(self._numbers) for key in last if key != "learning_rate"},
            "learning_rate": last["learning_rate"],
            "score": total["score"] / rows,
            "score_deviation": max(total["score_squared"] / rows - (total["score"] / rows) ** 2, 0.0) ** 0.5,
            **{name: total[name] / rows for name in self._rewards},
            "kl": total["kl"] / rows,
            "kl_per_token": total["kl"] / tokens,
            "eos_rate": total["finished"] / rows,
            "length": tokens / rows,
            "entropy": total["surprise"] / tokens,
            "tokens": tokens,
            **dict(zip(("policy_loss", "value_loss", "clip_fraction", "approximate_kl"), losses, strict=True)),
            "explained_variance": sum(self._explained) / len(self._explained),
        }
