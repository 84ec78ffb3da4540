"""DPO: the policy's own log-probabilities as the reward, relative to a frozen reference.

Log-probabilities are summed over the last assistant's message, including its end token (EasyLM @ dbf2212c,
``llama_train_dpo.py``).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tulu_eval.training.formulas import PairLosses, dpo_loss, sequence_logprobs
from tulu_eval.training.loop import Trainer
from tulu_eval.training.networks import Policy, collate
from tulu_eval.training.pairs import train_on_pairs
from tulu_eval.training.rows.data import PreferencePair


def train(trainer: Trainer, policy: Policy, reference: Policy, pairs: Sequence[PreferencePair], beta: float) -> None:
    """Trains a policy on pairs."""
    ranks = trainer.ranks

    def losses(part: list[PreferencePair]) -> PairLosses:
        sides = [side for pair in part for side in pair]
        trainer.speed.count(4 * policy.flops(sides), sum(map(len, sides)))
        with torch.no_grad(), trainer.speed.part("reference"):
            ref_better, ref_worse = pair_logprobs(reference, part, ranks.device)
        with trainer.speed.part("policy"):
            better, worse = pair_logprobs(policy, part, ranks.device)
            found = dpo_loss(better, worse, ref_better, ref_worse, beta)
            ranks.backward(found.loss.sum() / trainer.recipe.batch)
        return found

    train_on_pairs(trainer, pairs, losses)


def pair_logprobs(policy: Policy, pairs: Sequence[PreferencePair], device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns the log-probabilities [pairs] of the chosen and of the rejected answers, from one forward pass."""
    batch = collate([pair.chosen for pair in pairs] + [pair.rejected for pair in pairs], device)
    better, worse = sequence_logprobs(policy(batch), batch.mask).chunk(2)
    return better, worse
