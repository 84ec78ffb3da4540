"""A reward model: the chosen answer of a pair shall score higher (Bradley-Terry).

The score is read at the last token, the end token of the answer (EasyLM @ dbf2212c, ``llama_train_rm.py``).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tulu_eval.training.data import PreferencePair
from tulu_eval.training.formulas import preference_loss
from tulu_eval.training.loop import Trainer
from tulu_eval.training.networks import Scorer, collate, last_token_scores


def train(trainer: Trainer, scorer: Scorer, pairs: Sequence[PreferencePair]) -> None:
    """Trains a scorer on pairs."""
    ranks = trainer.ranks
    for step in trainer.steps():
        whole = [pairs[index] for index in trainer.batch(step)]
        chosen = ranks.share(whole)

        def learn(part: list[PreferencePair]) -> Tensor:
            sides = [side for pair in part for side in pair]
            trainer.speed.count(3 * scorer.flops(sides), sum(map(len, sides)))
            with trainer.speed.part("reward"):
                better, worse = pair_scores(scorer, part, ranks.device)
                losses = preference_loss(better, worse)
                ranks.backward(losses.sum() / trainer.recipe.batch)
            margin = (better - worse).detach()
            return torch.stack([losses.detach().sum(), (margin > 0).float().sum(), margin.sum()]) / trainer.recipe.batch

        sums = torch.stack(trainer.micro_batches(chosen, PreferencePair.tokens, learn)).sum(0)
        numbers = trainer.update(sums[0], [side for pair in chosen for side in pair])
        _, accuracy, margin = ranks.sum(sums).tolist()
        tokens = float(sum(len(side) for pair in whole for side in pair))
        trainer.log(step, {**numbers, "accuracy": accuracy, "margin": margin, "tokens": tokens})


def pair_scores(scorer: Scorer, pairs: Sequence[PreferencePair], device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns the scores [pairs] of the chosen and of the rejected sides, from one forward pass."""
    batch = collate([pair.chosen for pair in pairs] + [pair.rejected for pair in pairs], device)
    better, worse = last_token_scores(scorer(batch), batch).chunk(2)
    return better, worse
