"""Where a model's weights come from, and which models stood beside it while it was trained.

A policy descends from policies alone: base, SFT, then PPO or DPO. A PPO run has a reward model, which only scores, and a value
model, which only estimates; neither is an ancestor of the policy, and the policy is none of theirs. A reward model descends
from a policy whose head was replaced. A value model begins as a copy of the reward model (EasyLM @ dbf2212c,
``llama_train_ppo.py``, ``load_checkpoint_reward``, and the base models that the value models' cards name).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from tulu_eval.registry.entries import Model, Stage

POLICY_STAGES: tuple[Stage, ...] = ("base", "SFT", "DPO", "PPO", "instruct")
"""Stages of models that answer."""

STARTS_FROM: Mapping[Stage, tuple[Stage, ...]] = {
    "base": ("base",),
    **dict.fromkeys(("SFT", "DPO", "PPO", "instruct", "RM"), POLICY_STAGES),
    "value": ("RM",),
}
"""Stages that the ``base`` of a model can have."""


@dataclasses.dataclass(frozen=True, slots=True)
class Lineage:
    """Where a model comes from.

    Attributes:
        model: The model.
        ancestors: Policies that its weights descend from, oldest first; empty for a base, and where the start is not recorded.
        copied_from: The reward model that a value model began as; ``None`` for any other model.
        reward_model: The model that scored its answers, or those of the policy that it was trained with.
        value_model: The model that was trained beside it, where one is published.
        trained_with: The policy beside which a value model was trained.
    """

    model: Model
    ancestors: tuple[Model, ...]
    copied_from: Model | None
    reward_model: Model | None
    value_model: Model | None
    trained_with: Model | None

    @property
    def path(self) -> tuple[Model, ...]:
        """All models whose weights became this one's, oldest first, and itself."""
        return (*self.ancestors, *([self.copied_from] if self.copied_from else []), self.model)


def lineage(model: Model, known: Mapping[str, Model]) -> Lineage:
    """Returns the lineage of a model.

    Args:
        model: The model.
        known: All models by hub id, checked.
    """

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
