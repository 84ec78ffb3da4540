"""A reward model: the chosen answer of a pair should have the higher score (Bradley-Terry).

The score is read at the last token, the end token of the answer (EasyLM @ dbf2212c, ``llama_train_rm.py``).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tulu_eval.training.formulas import PairLosses, preference_loss
from tulu_eval.training.loop import Trainer
from tulu_eval.training.networks import Scorer, collate, last_token_scores
from tulu_eval.training.pairs import train_on_pairs
from tulu_eval.training.rows.data import PreferencePair


def train(trainer: Trainer, scorer: Scorer, pairs: Sequence[PreferencePair]) -> None:
    """Trains a scorer on pairs."""
    ranks = trainer.ranks

    def losses(part: list[PreferencePair]) -> PairLosses:
        sides = [side for pair in part for side in pair]
        trainer.speed.count(3 * scorer.flops(sides), sum(map(len, sides)))
        with trainer.speed.part("reward"):
            better, worse = pair_scores(scorer, part, ranks.device)
            found = preference_loss(better, worse)
            ranks.backward(found.loss.sum() / trainer.recipe.batch)
        return found

    train_on_pairs(trainer, pairs, losses)


def pair_scores(scorer: Scorer, pairs: Sequence[PreferencePair], device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns the scores [pairs] of the chosen and of the rejected sides, from one forward pass."""
    batch = collate([pair.chosen for pair in pairs] + [pair.rejected for pair in pairs], device)
    better, worse = last_token_scores(scorer(batch), batch).chunk(2)
    return better, worse
