"""The models from which a model's weights descend, and the models that took part in its training.

A policy descends from policies only: base, SFT, then PPO or DPO. A PPO run has a reward model, which only scores, and a value
model, which only estimates. Neither is an ancestor of the policy, and the policy is not an ancestor of either. A reward model
descends from a policy whose head was replaced. A value model starts as a copy of the reward model (EasyLM @ dbf2212c,
``llama_train_ppo.py``, ``load_checkpoint_reward``, and the base models that the value models' cards name).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from tulu_eval.registry.entries import Model, Stage

POLICY_STAGES: tuple[Stage, ...] = ("base", "SFT", "DPO", "PPO", "instruct")
"""Stages of models that generate answers."""

STARTS_FROM: Mapping[Stage, tuple[Stage, ...]] = {
    "base": ("base",),
    **dict.fromkeys(("SFT", "DPO", "PPO", "instruct", "RM"), POLICY_STAGES),
    "value": ("RM",),
}
"""The allowed stages of a model's ``base``, by the model's own stage."""


@dataclasses.dataclass(frozen=True, slots=True)
class Lineage:
    """The lineage of a model.

    Attributes:
        ancestors: Policies from which its weights descend, oldest first; empty for a base, or if the start is not recorded.
        copied_from: The reward model of which a value model started as a copy; ``None`` for any other model.
        reward_model: The model that scored its answers, or the answers of the policy that PPO trained with it.
        value_model: The value model that PPO trained with it; ``None`` if none is published.
        trained_with: The policy with which PPO trained a value model; ``None`` for any other model.
    """

    model: Model
    ancestors: tuple[Model, ...]
    copied_from: Model | None
    reward_model: Model | None
    value_model: Model | None
    trained_with: Model | None

    @property
    def path(self) -> tuple[Model, ...]:
        """All models from which the weights descend, oldest first, and the model itself last."""
        return (*self.ancestors, *([self.copied_from] if self.copied_from else []), self.model)


def lineage(model: Model, known: Mapping[str, Model]) -> Lineage:
    """Returns the lineage of a model of ``known``, which has all models by hub id and was checked."""

    def named(hub_id: str | None) -> Model | None:
        return known[hub_id] if hub_id is not None else None

    path: list[Model] = []
    base = named(model.base)
    while base is not None:
        path.insert(0, base)
        base = named(base.base)
    return Lineage(
        model=model,
        ancestors=tuple(one for one in path if one.stage in POLICY_STAGES),
        copied_from=named(model.base) if model.stage == "value" else None,
        reward_model=named(model.reward_model),
        value_model=named(model.value_model),
        trained_with=named(model.trained_with),
    )
