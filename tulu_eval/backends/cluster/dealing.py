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

A request on which an engine fails and lives is asked once more on another node, before all others: a broken GPU fails fast, and
would else fail most of a run. It has failed if that node fails on it, too.
"""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from typing import Generic, TypeVar

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
        twin: The share with which another engine answers the same requests, since one of both is slow; ``None`` for none.
        taken: Keys of requests that the twin's engine answered first.
    """

    waiting: dict[str, Asked]
    strikes: int = 0
    twin: Share[Asked] | None = dataclasses.field(default=None, repr=False, compare=False)
    taken: set[str] = dataclasses.field(default_factory=set)

    def take_out(self, key: str) -> Asked | None:
        """Takes out and returns an answered request; ``None`` if the twin's engine has answered it."""
        if key not in self.waiting:
            self.taken.remove(key)
            return None
        if self.twin is not None:
            del self.twin.waiting[key]
            self.twin.taken.add(key)
        return self.waiting.pop(key)

    def doubled(self) -> Share[Asked]:
        """Returns a share of the same requests for another engine, the last first; whoever answers one is the first."""
        self.twin = Share(dict(reversed(self.waiting.items())), self.strikes, self)
        return self.twin

    def part(self) -> bool:
        """Leaves the requests to the twin's engine; returns whether there is one."""
        twin, self.twin = self.twin, None
        if twin is not None:
            twin.twin = None
        return twin is not None


@dataclasses.dataclass(frozen=True, slots=True)
class Refused(Generic[Asked]):
    """A request on which an engine failed, with its node and what it said."""

    request: Asked
    node: str
    cause: str


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
        self._again: dict[str, Refused[Asked]] = {}
        self._first: dict[str, str] = {}
        self._engines = engines

    @property
    def empty(self) -> bool:
        """Whether no request waits for an engine."""
        return not (self._round or self._fresh or self._suspects or self._again)

    def deal(self, node: str = "") -> Share[Asked] | None:
        """Returns the next share for an engine on a node, which is taken out of the queue; ``None`` if there is none for it."""
        again = [key for key, one in self._again.items() if one.node != node]
        if again:
            return Share({key: self._again.pop(key).request for key in again[:LARGEST_SHARE]})
        if not self._round and self._fresh:
            count = min(len(self._fresh), LARGEST_SHARE * self._engines)
            taken = [self._fresh.popleft() for _ in range(count)]
            self._round += [Share(_by_key(taken[start :: self._engines])) for start in range(min(count, self._engines))]
        queue = self._round or self._suspects
        return queue.popleft() if queue else None

    def refuse(self, request: Asked, node: str, cause: str) -> bool:
        """Takes back a request on which an engine failed; returns whether it will be asked on another node."""
        if request.key in self._first:
            return False
        self._first[request.key] = node
        self._again[request.key] = Refused(request, node, cause)
        return True

    def refused_by(self, key: str) -> str:
        """Returns the node that failed on a request at first; empty if none did."""
        return self._first.get(key, "")

    def hopeless(self, nodes: Collection[str]) -> list[Refused[Asked]]:
        """Takes out and returns the requests that failed on the only one of the nodes that have engines."""
        left = [one for one in self._again.values() if set(nodes) <= {one.node}]
        for one in left:
            del self._again[one.request.key]
        return left

    def put_back(self, share: Share[Asked]) -> None:
        """Takes back what an engine had that was lost with its node, for which no request is to blame."""
        if share.part():
            return
        if share.strikes:
            self._suspects.append(share)
        else:
            self._fresh.extendleft(reversed(share.waiting.values()))

    def blame(self, share: Share[Asked]) -> list[Asked]:
        """Takes back what an engine had that died, in smaller shares; returns the requests that have failed."""
        if share.part():
            return []
        asked, strikes = list(share.waiting.values()), share.strikes + 1
        if strikes == STRIKES:
            return asked
        size = 1 if strikes == STRIKES - 1 else math.isqrt(max(0, len(asked) - 1)) + 1
        for start in range(0, len(asked), size):
            self._suspects.append(Share(_by_key(asked[start : start + size]), strikes))
        return []


def _by_key(asked: Iterable[Asked]) -> dict[str, Asked]:
    return {one.key: one for one in asked}
