"""Refuses reward models with another head than training reads: one number per token, from ``score.weight`` alone."""

from __future__ import annotations

from tulu_eval.errors import PreflightError
from tulu_eval.models import weights
from tulu_eval.models.base import ModelFiles

SCORE, BIAS = "score.weight", "score.bias"
BODY = ("model.", "transformer.", "base_model.", "lm_head.", "embed_", "layers.", "norm.")
"""Beginnings of the names of weights that are no head of a reward model."""


def refuse_other(model: ModelFiles) -> None:
    """Raises PreflightError if a reward model's weights, which must be here, have another head; the message names it."""
    there = weights.layout(model.path, model.weight_files)
    if SCORE not in there:
        others = sorted(name for name in there if not name.startswith(BODY))
        if not others:
            raise PreflightError(f"{model.name} is not a reward model: {SCORE} is missing; train one with 'tulu-eval train rm'")
        raise PreflightError(
            f"{model.name} has the head {others[0]}, and a reward model here has {SCORE} alone; serve it, and give its address "
            "with --reward-url"
        )
    labels = there[SCORE].shape[0]
    if labels != 1:
        raise PreflightError(
            f"{model.name} gives {labels} numbers, one per label, and a reward is one; train a model with 'tulu-eval train rm'"
        )
    if BIAS in there:
        raise PreflightError(
            f"{model.name} has a {BIAS}, which the models of training do not have: its scores would change; write the model "
            "without it, which shifts every score alike, and add it with --set reward_bias"
        )
