"""Supervised fine-tuning: the mean negative log-probability of the assistant's tokens.

The mean is over all supervised tokens of a batch, in all rows, micro-batches and ranks (EasyLM,
``cross_entropy_loss_and_accuracy``), in float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tulu_eval.training.formulas import masked_mean
from tulu_eval.training.loop import Trainer
from tulu_eval.training.networks import Policy, collate
from tulu_eval.training.text import Tokens


def train(trainer: Trainer, policy: Policy, rows: Sequence[Tokens]) -> None:
    """Trains a policy on conversations."""
    ranks = trainer.ranks
    for step in trainer.steps():
        whole = [rows[index] for index in trainer.batch(step)]
        chosen = ranks.share(whole)
        tokens = ranks.sum(torch.tensor(float(sum(row.mask.sum() for row in chosen)), device=ranks.device))

        def learn(part: list[Tokens], tokens: Tensor = tokens) -> Tensor:
            batch = collate(part, ranks.device)
            trainer.speed.count(3 * policy.flops(part), sum(map(len, part)))
            with trainer.speed.part("policy"):
                loss = masked_mean(-policy(batch), batch.mask, tokens)
                ranks.backward(loss)
            return loss.detach()

        losses = trainer.micro.each(chosen, len, learn)
        numbers = trainer.update(torch.stack(losses).sum(), chosen)
        trainer.log(step, {**numbers, "tokens": float(sum(map(len, whole)))})
