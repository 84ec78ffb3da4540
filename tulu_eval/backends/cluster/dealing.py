"""Deals requests to engines that may die: pure bookkeeping, which knows no cluster.

All requests lie in one queue, the longest prompt first, since a long one that starts late would end alone. They are dealt in
rounds: every engine gets the same number, at most :data:`LARGEST_SHARE`, and of every length. Smaller shares towards the end
(guided self-scheduling) would let engines that differ end together, but an engine works at a share until its last row ends
alone, and each share costs that time: simulated with real lengths, eight engines with 10,000 requests were used to 54 % with
shares of half the fair part, to 69 % with nine tenths of it, and to 85 % with all of it (``benchmarks/cluster_simulation.py``).

If an engine dies, nobody knows which of its unanswered requests did it. A share that killed one engine is dealt again in pieces
of the square root of its size, a piece that killed a second one in single requests, and a single request that kills a third one
has failed. So a request that kills engines costs three of them, and never makes another request fail. Suspects come last: all
others are answered before them.
"""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

from tulu_eval.errors import EngineError
from tulu_eval.logprobs import ChoiceRequest, ScoreRequest
from tulu_eval.records import Request

Asked = TypeVar("Asked", Request, ChoiceRequest, ScoreRequest)

STRIKES = 3
"""Engines that a request may kill before it has failed."""

LARGEST_SHARE = 2048
"""Most requests of a share, so that what is on its way at one time stays small: GSM8K's 8-shot prompts take 4 kB each."""


@dataclasses.dataclass(slots=True)
class Share(Generic[Asked]):
    """Requests that one engine answers.

    Attributes:
        waiting: The requests without an answer, by key.
        strikes: Engines that died with these requests, 0 to 2.
    """

    waiting: dict[str, Asked]
    strikes: int = 0

    def take_out(self, key: str) -> None:
        """Takes out an answered request; raises EngineError if it was answered before, or not asked."""
        if self.waiting.pop(key, None) is None:
            raise EngineError("an engine answered a request twice, or one that it was not asked")


class Dealer(Generic[Asked]):
    """Has the requests that no engine has.

    Args:
        asked: Requests with different keys.
        engines: Number of engines.
    """

    def __init__(self, asked: Sequence[Asked], engines: int) -> None:
        self._fresh: deque[Asked] = deque(sorted(asked, key=lambda one: -len(one.token_ids)))
        self._round: deque[Share[Asked]] = deque()
        self._suspects: deque[Share[Asked]] = deque()
        self._engines = engines

    @property
    def empty(self) -> bool:
        """Whether no request waits for an engine."""
        return not self._round and not self._fresh and not self._suspects

    def deal(self) -> Share[Asked]:
        """Returns the next share, which is taken out of the queue; call it only if the queue is not empty."""
        if not self._round and self._fresh:
            count = min(len(self._fresh), LARGEST_SHARE * self._engines)
            taken = [self._fresh.popleft() for _ in range(count)]
            self._round += [Share(_by_key(taken[start :: self._engines])) for start in range(min(count, self._engines))]
        return self._round.popleft() if self._round else self._suspects.popleft()

    def put_back(self, share: Share[Asked]) -> None:
        """Takes back what an engine had that was lost with its node, for which no request is to blame."""
        if share.strikes:
            self._suspects.append(share)
        else:
            self._fresh.extendleft(reversed(share.waiting.values()))

    def blame(self, share: Share[Asked]) -> list[Asked]:
        """Takes back what an engine had that died, in smaller shares; returns the requests that have failed."""
        asked, strikes = list(share.waiting.values()), share.strikes + 1
        if strikes == STRIKES:
            return asked
        size = 1 if strikes == STRIKES - 1 else math.isqrt(max(0, len(asked) - 1)) + 1
        for start in range(0, len(asked), size):
            self._suspects.append(Share(_by_key(asked[start : start + size]), strikes))
        return []


def _by_key(asked: Iterable[Asked]) -> dict[str, Asked]:
    return {one.key: one for one in asked}
