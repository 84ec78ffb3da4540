"""The steps of the stages that learn from pairs: reward model and DPO."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tulu_eval.training.formulas import PairLosses
from tulu_eval.training.loop import Trainer
from tulu_eval.training.rows.data import PreferencePair


def train_on_pairs(
    trainer: Trainer, pairs: Sequence[PreferencePair], losses: Callable[[list[PreferencePair]], PairLosses]
) -> None:
    """Does the steps of a run.

    ``losses`` returns the losses of a micro-batch of pairs and adds their gradients, divided by the recipe's batch.
    """
    ranks, batch = trainer.ranks, trainer.recipe.batch

    def learn(part: list[PreferencePair]) -> Tensor:
        found = losses(part)
        margin = found.margin.detach()
        return torch.stack([found.loss.detach().sum(), (margin > 0).float().sum(), margin.sum()]) / batch

    for step in trainer.steps():
        whole = [pairs[index] for index in trainer.batch(step)]
        chosen = ranks.share(whole)
        sums = torch.stack(trainer.micro.each(chosen, PreferencePair.tokens, learn)).sum(0)
        numbers = trainer.update(sums[0], [side for pair in chosen for side in pair])
        _, accuracy, margin = ranks.sum(sums).tolist()
        tokens = float(sum(len(side) for pair in whole for side in pair))
        trainer.log(step, {**numbers, "accuracy": accuracy, "margin": margin, "tokens": tokens})
