"""One call's requests on their way through the engines: dealt, answered, checked, asked again where an engine fails."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from tulu_eval.backends import usage
from tulu_eval.backends.cluster import nodes
from tulu_eval.backends.cluster.actor import RemoteJob
from tulu_eval.backends.cluster.checking import Checker, check_keys
from tulu_eval.backends.cluster.dealing import Dealer, Refused, Share
from tulu_eval.backends.cluster.fleet import Fleet
from tulu_eval.backends.cluster.node_messages import Answer, AnswerBatch, GarbageError
from tulu_eval.backends.cluster.ray_errors import cause_of
from tulu_eval.backends.cluster.remote_engine import RemoteEngine, failed
from tulu_eval.errors import EngineError, counted
from tulu_eval.logprobs import AnyRequest
from tulu_eval.records import Decoding

_LOG = logging.getLogger(__name__)

MOST_DEATHS = 10
"""Engines that may die one after the other with no answer in between; then something is wrong with more than a request."""

MOST_FAILED = 3
"""Requests that a node may fail on and another node answer; then the node is not used any more."""

TWIN_SECONDS = 60.0
"""How long an engine may have nothing to do until it gets what another one has not answered yet.

The other one may hang, or be slow. So a run ends although an engine never answers; its work is done twice only where an engine
would do nothing.
"""


HOPE_SECONDS = 600.0
"""How long the engines of another node may be silent until a request that failed on one node is not kept for them any more."""


class Submission:
    """The requests of one call.

    Args:
        asked: Requests of one kind with different keys.
    """

    def __init__(self, fleet: Fleet, asked: Sequence[AnyRequest], decoding: Decoding) -> None:
        self._fleet, self._decoding = fleet, decoding
        self._dealer: Dealer[Any] = Dealer(asked, fleet.room.engines)
        self._checker = Checker(fleet.limits, decoding)
        self._deaths = 0
        self._failed_on: Counter[str] = Counter()

    def run(self) -> Iterator[Answer]:
        """Yields one answer per request, in any order.

        Raises:
            EngineError: If engines die without end, or the cluster has no room for an engine any more.
        """
        fleet = self._fleet
        try:
            while not self._dealer.empty or any(engine.share and not _over(engine) for engine in fleet.engines):
                self._deal()
                for one in self._hopeless():
                    yield failed(one.request, one.cause)
                for engine, message in fleet.incoming():
                    if isinstance(message, GarbageError):
                        yield from self._distrust(engine, str(message))
                    elif isinstance(message, BaseException):
                        yield from self._lost(engine, message)
                    elif isinstance(message, AnswerBatch):
                        yield from self._take(engine, message)
                    else:
                        fleet.settle(engine, message)
        finally:
            for engine in [one for one in fleet.engines if one.share]:  # of a caller who wants no more, or too slow
                engine.kill()
                fleet.engines.remove(engine)

    def _hopeless(self) -> list[Refused[Any]]:
        """Takes out the requests that failed on one node and that no other node will answer."""
        placed = [engine for engine in self._fleet.engines if engine.node]
        heard = {engine.node for engine in placed if engine.silence < HOPE_SECONDS}
        return self._dealer.hopeless(heard) if placed else []

    def _deal(self) -> None:
        """Gives a share to each engine that has none."""
        for engine in self._fleet.engines:
            if engine.ready and engine.call is None and engine.share is None:
                engine.share = self._dealer.deal(engine.node) or self._doubled(engine)
                if engine.share is not None:
                    engine.ask(AnswerBatch, "work", RemoteJob(tuple(engine.share.waiting.values()), self._decoding))

    def _doubled(self, engine: RemoteEngine) -> Share[Any] | None:
        """Returns what another engine has not answered yet if this one has long had nothing to do; else ``None``."""
        if engine.silence < TWIN_SECONDS:
            return None
        others = [one for one in self._fleet.engines if one.share and one.share.waiting and one.share.twin is None]
        slow = max(others, key=lambda one: one.silence, default=None)
        if slow is None or slow.share is None:
            return None
        waiting = counted(len(slow.share.waiting), "request")
        _LOG.warning("the node %s is slow or hangs; %s that it has go to another engine, too", nodes.host(slow.node), waiting)
        return slow.share.doubled()

    def _take(self, engine: RemoteEngine, message: AnswerBatch) -> Iterator[Answer]:
        """Yields an engine's answers, after giving it more to do meanwhile."""
        share = engine.share
        try:
            if share is None:
                raise GarbageError("answered without being asked")
            check_keys(message, share.waiting, share.taken)
        except GarbageError as error:
            yield from self._distrust(engine, str(error))
            return
        good = list(self._good(engine, share, message))
        whole = message.last and not message.failure and not share.waiting
        if not message.last:
            engine.ask(AnswerBatch, "more")
        elif self._fleet.usage is not None and message.usage is not None:
            usage.add(self._fleet.usage, message.usage, self._fleet.room.engines)
        if whole:
            engine.share = None
            self._deal()
        yield from good
        if message.last and not whole:
            yield from self._blame(engine, message.failure or "it ended without answering all requests")

    def _good(self, engine: RemoteEngine, share: Share[Any], message: AnswerBatch) -> Iterator[Answer]:
        """Yields what can go to the ledger; takes back requests that another node may answer."""
        for answer in message.answers:
            request = share.take_out(answer.key)
            self._deaths = 0
            if request is None:
                continue
            fault, first = self._checker.fault(request, answer), self._dealer.refused_by(answer.key)
            if not fault:
                if first and first != engine.node:
                    self._failed_on[first] += 1
                yield answer
            elif not self._dealer.refuse(request, engine.node, fault):
                yield failed(request, fault)
        for node, count in list(self._failed_on.items()):
            if count >= MOST_FAILED and node not in self._fleet.dropped:
                self._drop(node, f"failed on {count} requests that another node answered")

    def _distrust(self, engine: RemoteEngine, cause: str) -> Iterator[Answer]:
        """Goes on without a node that sent garbage; what its engine had goes to others, and is not to blame."""
        if not engine.node:
            yield from self._blame(engine, cause)
            return
        if engine.share:
            self._dealer.put_back(engine.share)
        engine.share = None
        self._drop(engine.node, cause)

    def _drop(self, node: str, cause: str) -> None:
        for engine in self._fleet.engines:
            if engine.node == node and engine.share:
                self._dealer.put_back(engine.share)
        self._fleet.drop(node, cause)

    def _lost(self, engine: RemoteEngine, error: BaseException) -> Iterator[Answer]:
        """Takes back what an engine had whose process or node is gone, and starts another."""
        if not self._fleet.is_gone(engine, error):
            yield from self._blame(engine, cause_of(error))
            return
        waiting = len(engine.share.waiting) if engine.share else 0
        _LOG.warning("the node %s is lost; %d requests that it had go to others", nodes.host(engine.node), waiting)
        if engine.share:
            self._dealer.put_back(engine.share)
        self._fleet.replace(engine)

    def _blame(self, engine: RemoteEngine, cause: str) -> Iterator[Answer]:
        """Takes back what an engine had that died, yields an error for each request that has killed too many."""
        self._deaths += 1
        share, host = engine.share, nodes.host(engine.node)
        self._fleet.replace(engine)
        for one in self._dealer.blame(share) if share and share.waiting else ():
            self._deaths = 0
            yield failed(one, f"three engines died with this request, the last one on the node {host}: {cause}"[:500])
        if self._deaths >= MOST_DEATHS:
            raise EngineError(f"{MOST_DEATHS} engines died with no answer in between, the last one on the node {host}: {cause}")
        _LOG.warning("an engine on the node %s died (%s); another one is started", host, cause)


def _over(engine: RemoteEngine) -> bool:
    """Whether nothing that an engine has still to say is waited for."""
    share = engine.share
    return share is not None and not share.waiting and (bool(share.taken) or engine.silence > TWIN_SECONDS)
