"""Rewards of PPO: what scores a rollout. Any package may add one by the entry point group ``tulu_eval.rewards``.

This package has ``model`` (the reward model), ``rule`` (a benchmark's own scorer, :mod:`~tulu_eval.training.rule_reward`) and
``server`` (:mod:`~tulu_eval.training.reward_server`). ``--reward NAME[:ARGUMENT][=WEIGHT]`` takes one; several are summed with
their weights, and each has its mean in ``metrics.jsonl``.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

from tulu_eval.errors import PreflightError, UserError
from tulu_eval.runs import catalog
from tulu_eval.training.rows.data import TrainingRows
from tulu_eval.training.text import Tokens

if TYPE_CHECKING:  # a plan of a training needs no torch
    from torch import Tensor

    from tulu_eval.training.networks import Batch, Scorer
    from tulu_eval.training.rollout import Rollout

GROUP = "tulu_eval.rewards"
MODEL, SERVER = "model", "server"


@dataclasses.dataclass(frozen=True, slots=True)
class RewardSettings:
    """What a reward is made from.

    Attributes:
        argument: What stands behind its name and a colon; empty if nothing does.
        tokenizer: The policy's tokenizer.
        url: Address of ``--reward-url``; empty if there is none.
        load_model: Loads the reward model, frozen.
    """

    argument: str
    tokenizer: Any
    url: str
    load_model: Callable[[], Scorer]


class PromptSettings(NamedTuple):
    """How prompts are made from a reward's own items.

    Attributes:
        data: File of the items; ``None`` for the reward's own source.
        bos: Whether prompts begin with the tokenizer's beginning token.
        max_length: Largest number of tokens of a kept prompt.
        vocabulary: Number of token ids that all models know.
    """

    data: Path | None
    tokenizer: Any
    bos: bool
    max_length: int
    vocabulary: int


class Reward(abc.ABC):
    """Scores rollouts.

    Attributes:
        uses_model: Whether it needs the recipe's reward model.
    """

    uses_model: ClassVar[bool] = False

    @classmethod
    def check(cls, argument: str, url: str) -> str:
        """Returns what identifies the reward beside its name, before any weight is loaded; raises UserError if it cannot be."""
        if argument:
            raise UserError(f"this reward takes nothing behind a colon, and got {argument!r}")
        return ""

    @classmethod
    def prompts(cls, argument: str, settings: PromptSettings) -> TrainingRows[Tokens] | None:
        """Returns the prompts that the reward knows right answers to; ``None`` to take those of the data set."""
        return None

    @classmethod
    @abc.abstractmethod
    def make(cls, settings: RewardSettings) -> Self:
        """Returns the reward, ready to score."""

    @abc.abstractmethod
    def score(self, rollouts: Sequence[Rollout], batch: Batch) -> Tensor:
        """Returns the score of each rollout: [rows]. ``batch`` has the rollouts' tokens on this rank's device."""

    def flops(self, rows: Sequence[Tokens]) -> float:
        """Returns the operations of a score of rows."""
        return 0.0


class ModelReward(Reward):
    """The reward of a reward model: its number at the last token."""

    uses_model: ClassVar[bool] = True

    def __init__(self, model: Scorer) -> None:
        self._model = model

    @classmethod
    def make(cls, settings: RewardSettings) -> Self:
        """Loads the model."""
        return cls(settings.load_model())

    def score(self, rollouts: Sequence[Rollout], batch: Batch) -> Tensor:
        """Returns the scores [rows]."""
        from tulu_eval.training.networks import last_token_scores

        return last_token_scores(self._model(batch), batch)

    def flops(self, rows: Sequence[Tokens]) -> float:
        """Returns the operations of a forward pass over rows."""
        return self._model.flops(rows)


class RewardPart(NamedTuple):
    """One reward of a mixture, as the user named it.

    Attributes:
        name: Its name among the entry points.
        argument: What stands behind the name and a colon.
    """

    name: str
    argument: str
    weight: float

    @property
    def shown(self) -> str:
        """Name with argument."""
        return f"{self.name}:{self.argument}" if self.argument else self.name

    @property
    def kind(self) -> type[Reward]:
        """The class behind the name; raises UnknownName or PreflightError if there is none."""
        found = catalog.entry(GROUP, "reward", self.name)
        if not (isinstance(found, type) and issubclass(found, Reward)):
            raise PreflightError(f"the entry point {self.name!r} of {GROUP} is not a subclass of Reward")
        return found


def parse(texts: Sequence[str], url: str) -> tuple[RewardPart, ...]:
    """Returns the rewards of ``--reward``; if it names none, the server if it has an address (``url``), else the model.

    Raises:
        UserError: If a text is no reward, a weight no number, or one is named twice.
    """
    parts = tuple(map(_part, texts)) or (RewardPart(SERVER if url else MODEL, "", 1.0),)
    names = [part.shown for part in parts]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"--reward {twice[0]} is there twice")
    if url and SERVER not in [part.name for part in parts]:
        raise UserError("--reward-url is the address of the reward 'server'; give --reward server too")
    return parts


def _part(text: str) -> RewardPart:
    named, equals, weight = text.rpartition("=")
    if not equals:
        named, weight = text, "1"
    name, _, argument = named.partition(":")
    try:
        number = float(weight)
    except ValueError:
        number = math.nan
    if not name or not math.isfinite(number) or not number:
        raise UserError(f"--reward {text}: write NAME, NAME:ARGUMENT or NAME=WEIGHT, with a finite weight that is not 0")
    return RewardPart(name, argument, number)


class Mixture:
    """The weighted sum of rewards.

    Args:
        rewards: Weight and reward by name.
    """

    def __init__(self, rewards: dict[str, tuple[float, Reward]]) -> None:
        self.names = tuple(rewards)
        self._weights = [weight for weight, _ in rewards.values()]
        self._rewards = [reward for _, reward in rewards.values()]

    @classmethod
    def of_model(cls, model: Scorer) -> Self:
        """Returns a reward model alone."""
        return cls({MODEL: (1.0, ModelReward(model))})

    def parts(self, rollouts: Sequence[Rollout], batch: Batch) -> Tensor:
        """Returns each reward's scores without weights: [rows, rewards], float32."""
        import torch

        return torch.stack([reward.score(rollouts, batch).float() for reward in self._rewards], dim=1)

    def total(self, parts: Tensor) -> Tensor:
        """Returns the weighted sum [rows] of the scores [rows, rewards]."""
        return parts @ parts.new_tensor(self._weights)

    def flops(self, rows: Sequence[Tokens]) -> float:
        """Returns the operations of the scores of rows."""
        return sum(reward.flops(rows) for reward in self._rewards)


def texts(rollout: Rollout, tokenizer: Any) -> tuple[str, str]:
    """Returns a rollout's prompt and answer as texts without special tokens."""
    ids, mask = rollout.tokens.ids, rollout.tokens.mask
    prompt, answer = (str(tokenizer.decode(ids[part].tolist(), skip_special_tokens=True)) for part in (~mask, mask))
    return prompt, answer
