"""A server as a reward: it gets texts, and replies with one number for each.

Request and reply are those of OpenRLHF's ``remote_rm_url``, so its servers can be used: ``{"query": [...], "prompts": [...],
"labels": [...]}``, where a query is the whole text with special tokens and a label the right answer or empty, and
``{"rewards": [...]}``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

from tulu_eval import files
from tulu_eval.endpoint.url import parse_base_url
from tulu_eval.endpoint.wire import Connection, DroppedError, Reply
from tulu_eval.errors import DataError, EngineError, UserError
from tulu_eval.training.rewards import Reward, RewardSettings

if TYPE_CHECKING:
    from torch import Tensor

    from tulu_eval.training.networks import Batch
    from tulu_eval.training.rollout import Rollout

SECONDS = 600.0
"""Largest time for one answer."""

TRIES, PAUSE = 5, 2.0
"""Tries of one request, and seconds between two; a server that starts again is back by then or does not come back."""


class Rewards(files.Record, frozen=True):
    """A server's reply, of which nothing else is read."""

    rewards: list[float]


class ServerReward(Reward):
    """Asks the server of ``--reward-url``."""

    def __init__(self, url: str, tokenizer: Any) -> None:
        self._url, self._tokenizer = parse_base_url(url, "the reward server"), tokenizer
        self._connection = Connection(self._url, "", SECONDS)

    @classmethod
    def check(cls, argument: str, url: str) -> str:
        """Raises UserError if there is no address or it is none; a server may move, so its address identifies nothing."""
        if argument:
            raise UserError("--reward server has its address from --reward-url")
        if not url:
            raise UserError("--reward server needs its address: give --reward-url")
        parse_base_url(url, "the reward server")
        return ""

    @classmethod
    def make(cls, settings: RewardSettings) -> Self:
        """Returns the reward; the first score asks the server for the first time."""
        return cls(settings.url, settings.tokenizer)

    def score(self, rollouts: Sequence[Rollout], batch: Batch) -> Tensor:
        """Returns the server's numbers [rows]; raises EngineError if it gives none."""
        whole = [rollout.tokens for rollout in rollouts]
        body = {
            "query": [self._tokenizer.decode(row.ids.tolist()) for row in whole],
            "prompts": [self._tokenizer.decode(row.ids[~row.mask].tolist()) for row in whole],
            "labels": [row.target for row in whole],
        }
        reply = self._ask(body)
        try:
            found = files.parse_json(reply.body, files.Place(str(self._url)))
            rewards = files.checked(
                {"rewards": found.get("rewards")} if isinstance(found, dict) else found, Rewards, files.Place(str(self._url))
            )
        except DataError as error:
            raise EngineError(f"the reward server's reply has no rewards: {error}") from error
        if len(rewards.rewards) != len(rollouts):
            raise EngineError(f"the reward server {self._url} gave {len(rewards.rewards)} rewards for {len(rollouts)} answers")
        import torch

        scores = torch.tensor(rewards.rewards, device=batch.ids.device)
        if not scores.isfinite().all():
            raise EngineError(f"the reward server {self._url} gave a reward that is too large for float32")
        return scores

    def _ask(self, body: dict[str, list[str]]) -> Reply:
        problem = ""
        for attempt in range(TRIES):
            if attempt:
                time.sleep(PAUSE)
            try:
                reply = self._connection.request("POST", "", body)
            except DroppedError as error:
                problem = str(error)
                continue
            if reply.status == 200:
                return reply
            problem = f"status {reply.status}"
            if reply.status < 500:
                break
        raise EngineError(
            f"the reward server {self._url} gave no rewards ({problem}); the last checkpoint is whole: start the server and "
            "give the same command again"
        )
