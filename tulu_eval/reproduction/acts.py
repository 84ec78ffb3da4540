"""The recipe ``sums``: what is trained from what, which models are measured, and which are compared.

Act 1 teaches form: PPO by a reward model of pairs, with plain SFT on the chosen answers as its control. Act 2 teaches
correctness: the same policy goes on with PPO by the benchmark's own scorer, on the benchmark's training split.
"""

from __future__ import annotations

import dataclasses
from types import MappingProxyType

from tulu_eval.training.stages import Stage

BENCHMARK = "sums"
START, SFT, REWARD_MODEL, CHOSEN, PPO, RULE = (
    f"sums-{name}" for name in ("random", "sft", "rm", "chosen", "ppo", "rule")
)  # the models' names in results


@dataclasses.dataclass(frozen=True, slots=True)
class Training:
    """A stage that trains.

    Attributes:
        recipe: Name of the stage's preset.
        start: Name of the model from which it starts.
        exported: Name of its model's folder in the run.
        rows: Name of the data file; empty for the reward's own prompts.
        reward_model: Name of the reward model; empty for none.
        reward: The reward; empty for the reward model.
    """

    stage: Stage
    recipe: str
    start: str
    exported: str = "policy"
    rows: str = ""
    reward_model: str = ""
    reward: str = ""


TRAININGS = MappingProxyType(
    {
        SFT: Training("sft", "sums", START, rows="sft"),
        REWARD_MODEL: Training("rm", "sums", SFT, "reward_model", rows="pairs"),
        CHOSEN: Training("sft", "sums-chosen", SFT, rows="chosen"),
        PPO: Training("ppo", "sums", SFT, rows="prompts", reward_model=REWARD_MODEL),
        RULE: Training("ppo", "sums-rule", PPO, reward=f"rule:{BENCHMARK}"),
    }
)
"""What makes each model, in order."""

MEASURED = MappingProxyType(
    {
        SFT: "SFT",
        CHOSEN: "SFT, then SFT on the chosen answers",
        PPO: "SFT, then PPO by the reward model",
        RULE: "the same, then PPO by the rule",
    }
)
"""How each measured model was trained."""

GAINS = ((PPO, SFT), (CHOSEN, SFT), (PPO, CHOSEN), (RULE, PPO), (RULE, CHOSEN))
"""The compared models: the gain of the first over the second."""
