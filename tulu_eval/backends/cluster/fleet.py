"""The engines on a cluster's nodes as the driver sees them: started, fed, replaced if they die, ended."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tulu_eval.backends.base import Backend, EngineSettings, ReloadError, Usage
from tulu_eval.backends.cluster import nodes, usage
from tulu_eval.backends.cluster.actor import (
    ActorPlace,
    Answer,
    AnswerBatch,
    Loaded,
    LoadOrder,
    NodeReport,
    Refusal,
    RemoteJob,
)
from tulu_eval.backends.cluster.dealing import Dealer
from tulu_eval.backends.cluster.placing import Room
from tulu_eval.backends.cluster.ray_errors import cause_of, node_died
from tulu_eval.backends.cluster.remote_engine import RemoteEngine, failed
from tulu_eval.backends.cluster.versions import difference, other_engine, versions
from tulu_eval.errors import EngineError, PreflightError
from tulu_eval.logprobs import AnyRequest
from tulu_eval.models.base import ModelFiles
from tulu_eval.records import Decoding

_LOG = logging.getLogger(__name__)

MOST_DEATHS = 10
"""Engines that may die one after the other with no answer in between; then something is wrong with more than a request."""

POLL_SECONDS = 1.0
"""How often the driver looks around while no engine says anything."""

PLACE_SECONDS = 10.0
"""How long an engine with room may be silent at its start before the others go on without it."""

ASK_SECONDS = 2.0
"""How often nodes are asked whether they are there, while an engine has no place."""

ROOM_SECONDS = 30.0
"""How long a cluster without any engine may take until the user hears of it, and until it is given up if it has no room."""

CLOSE_SECONDS = 10.0
"""How long idle engines may take to end by themselves."""


class Fleet:
    """All engines of one model: started, then :meth:`look`, :meth:`load` and :meth:`work`.

    Attributes:
        inner: Class of the engines.
        room: What each needs, and their number.
        facts: What the first engine that was loaded says of itself; all others must say the same.
        usage: What the engines used; ``None`` if they do not count.
    """

    def __init__(self, inner: type[Backend], room: Room) -> None:
        self.inner, self.room = inner, room
        self._sought: tuple[ModelFiles, EngineSettings] | None = None
        self._order: LoadOrder | None = None
        self._versions = versions()
        self._deaths = 0
        self._heard = self._asked = time.monotonic()
        self._waited = False
        self.facts: dict[str, str] = {}
        self.usage: Usage | None = None
        self._placed_now = nodes.free(room)
        self.engines = self._started(room.engines)

    def look(self, model: ModelFiles, settings: EngineSettings) -> None:
        """Waits for the engines that have room now, and has them look for a model on their nodes.

        Raises:
            PreflightError: If a node has other versions, or not this model, or cannot start an engine.
        """
        self._sought = model, settings
        for engine in self.engines:
            engine.seen = False
            if engine.node and engine.call is None:
                engine.call = engine.actor.look.remote(model, settings)
        while not self._are(lambda engine: engine.seen):
            self._hear()
        self._placed_now = 0  # what is not there by now is not waited for again

    def load(self, order: LoadOrder) -> None:
        """Loads a model into the engines that have room now; the others do so once they have room.

        Raises:
            PreflightError: If a node has other versions, or cannot load the model.
            EngineError: If engines die while they load, or differ.
        """
        self._order = order
        for engine in self.engines:
            if engine.node and engine.call is None:
                engine.call = engine.actor.load.remote(order)
        while not self._are(lambda engine: engine.ready):
            self._hear()

    def _are(self, there: Callable[[RemoteEngine], bool]) -> bool:
        """Whether some engines have a place, none is late in getting one, and all that have one are there."""
        placed = [engine for engine in self.engines if engine.node]
        late = len(placed) < self._placed_now and time.monotonic() - self._heard < PLACE_SECONDS
        return bool(placed) and not late and all(there(engine) for engine in placed)

    def _hear(self) -> None:
        """Takes the messages of engines that have no work yet."""
        for engine, message in self._incoming():
            if isinstance(message, Exception):
                list(self._lost(engine, message, None))
            else:
                self._settle(engine, message)

    def work(self, asked: Sequence[AnyRequest], decoding: Decoding) -> Iterator[Answer]:
        """Deals requests to the engines and yields the answers as they come.

        Raises:
            EngineError: If engines die without end, or the cluster has no room for an engine any more.
        """
        dealer: Dealer[Any] = Dealer(asked, self.room.engines)
        self._deaths, self._heard = 0, time.monotonic()
        self.engines += self._started(self.room.engines - len(self.engines))
        try:
            while not dealer.empty or any(engine.share for engine in self.engines):
                self._deal(dealer, decoding)
                for engine, message in self._incoming():
                    if isinstance(message, Exception):
                        yield from self._lost(engine, message, dealer)
                    elif isinstance(message, AnswerBatch):
                        yield from self._take(engine, message, dealer, decoding)
                    else:
                        self._settle(engine, message)
        finally:
            for engine in [one for one in self.engines if one.share]:  # of a caller who wants no more
                engine.kill()
                self.engines.remove(engine)

    def _deal(self, dealer: Dealer[Any], decoding: Decoding) -> None:
        """Gives a share to each engine that has none."""
        for engine in self.engines:
            if engine.ready and engine.call is None and engine.share is None and not dealer.empty:
                engine.share = dealer.deal()
                engine.call = engine.actor.work.remote(RemoteJob(tuple(engine.share.waiting.values()), decoding))

    def reload(self, order: LoadOrder, probe: tuple[int, ...]) -> None:
        """Puts another model's weights into all engines; raises ReloadError if one of them cannot take them."""
        import ray

        if not all(engine.ready and engine.call is None for engine in self.engines):
            raise ReloadError("not all engines of the cluster are there")
        try:
            found = ray.get([engine.actor.reload.remote(order, probe) for engine in self.engines])
        except ray.exceptions.RayError as error:
            raise ReloadError(f"an engine died: {cause_of(error)}") from error
        for answer in found:
            if isinstance(answer, Refusal):
                raise ReloadError(answer.cause)
        self._order, self.facts = order, dict(found[0].facts)

    def close(self) -> None:
        """Ends all engines, idle ones in order."""
        import ray

        idle = [engine.actor.close.remote() for engine in self.engines if engine.ready and engine.call is None]
        with contextlib.suppress(ray.exceptions.RayError):
            ray.wait(idle, num_returns=len(idle), timeout=CLOSE_SECONDS) if idle else None
        for engine in self.engines:
            engine.kill()
        self.engines = []

    def _incoming(self) -> Iterator[tuple[RemoteEngine, object]]:
        """Yields what engines said, or the error of one that is gone; waits at most :data:`POLL_SECONDS`."""
        import ray

        self._move()
        calls = {engine.call: engine for engine in self.engines if engine.call is not None}
        if not calls:
            raise EngineError("no engine of the cluster is left")
        ray.wait(list(calls), num_returns=1, timeout=POLL_SECONDS)
        ready, _ = ray.wait(list(calls), num_returns=len(calls), timeout=0)
        if ready:
            self._heard = time.monotonic()
        else:
            self._check_room()
        for call in ready:
            engine = calls[call]
            engine.call = None
            try:
                yield engine, ray.get(call)
            except ray.exceptions.RayError as error:
                yield engine, error

    def _move(self) -> None:
        """Starts those engines anew that Ray may be about to put on a node which was lost meanwhile."""
        without = [engine for engine in self.engines if not engine.node]
        if without and time.monotonic() - self._asked > ASK_SECONDS:
            lost, self._asked = set(nodes.silent()), time.monotonic()
            for engine in [one for one in without if lost - set(one.shunned)]:
                self._replace(engine)

    def _settle(self, engine: RemoteEngine, message: object) -> None:
        """Takes what an engine says that has no work yet: where it is, or that it is loaded."""
        if isinstance(message, ActorPlace):
            engine.node = message.node
            if different := difference(nodes.host(engine.node), message.versions, self._versions):
                raise PreflightError(different)
            if self._order is not None:
                engine.call = engine.actor.load.remote(self._order)
            elif self._sought is not None:
                engine.call = engine.actor.look.remote(*self._sought)
        elif isinstance(message, NodeReport):
            if message.trouble:
                raise PreflightError(f"the node {nodes.host(engine.node)} {message.trouble}")
            engine.seen = True
        elif isinstance(message, Refusal):
            raise PreflightError(f"the node {nodes.host(engine.node)}: {message.cause}")
        elif isinstance(message, Loaded):
            self.facts = self.facts or dict(message.facts)
            if different := other_engine(nodes.host(engine.node), message.facts, self.facts):
                raise EngineError(different)
            self.usage = self.usage or (Usage() if message.counts else None)
            engine.ready = True

    def _take(self, engine: RemoteEngine, message: AnswerBatch, dealer: Dealer[Any], decoding: Decoding) -> Iterator[Answer]:
        """Yields an engine's answers, after giving it more to do meanwhile."""
        share = engine.share
        if share is None:
            raise EngineError("an engine answered without being asked")
        for answer in message.answers:
            share.take_out(answer.key)
            self._deaths = 0
        whole = message.last and not message.failure and not share.waiting
        if not message.last:
            engine.call = engine.actor.more.remote()
        elif self.usage is not None and message.usage is not None:
            usage.add(self.usage, message.usage, self.room.engines)
        if whole:
            engine.share = None
            self._deal(dealer, decoding)
        yield from message.answers
        if message.last and not whole:
            yield from self._blame(engine, message.failure or "it ended without answering all requests", dealer)

    def _lost(self, engine: RemoteEngine, error: Exception, dealer: Dealer[Any] | None) -> Iterator[Answer]:
        """Takes back what an engine had whose process or node is gone, and starts another."""
        import ray

        if not isinstance(error, ray.exceptions.RayActorError):
            raise EngineError(f"the engine on the node {nodes.host(engine.node)} failed: {cause_of(error)}") from error
        if not engine.node and "creation task" in str(error):
            raise PreflightError(
                f"a node of the cluster cannot start an engine of this tulu-eval: {cause_of(error)}"
            ) from error
        gone = node_died(error) or (bool(engine.node) and engine.node not in {node.id for node in nodes.living()})
        if not gone and not isinstance(error, ray.exceptions.ActorUnavailableError):
            yield from self._blame(engine, cause_of(error), dealer)
            return
        waiting = len(engine.share.waiting) if engine.share else 0
        _LOG.warning("the node %s is lost; %d requests that it had go to others", nodes.host(engine.node), waiting)
        if engine.share and dealer:
            dealer.put_back(engine.share)
        self._replace(engine)

    def _blame(self, engine: RemoteEngine, cause: str, dealer: Dealer[Any] | None) -> Iterator[Answer]:
        """Takes back what an engine had that died, yields an error for each request that has killed too many."""
        self._deaths += 1
        share, host = engine.share, nodes.host(engine.node)
        self._replace(engine)
        for one in dealer.blame(share) if share and share.waiting and dealer else ():
            self._deaths = 0
            yield failed(one, f"three engines died with this request, the last one on the node {host}: {cause}"[:500])
        if self._deaths >= MOST_DEATHS:
            raise EngineError(f"{MOST_DEATHS} engines died with no answer in between, the last one on the node {host}: {cause}")
        _LOG.warning("an engine on the node %s died (%s); another one is started", host, cause)

    def _replace(self, engine: RemoteEngine) -> None:
        engine.kill()
        (self.engines[self.engines.index(engine)],) = self._started(1)

    def _started(self, count: int) -> list[RemoteEngine]:
        """Starts engines, none of them on a node that does not answer."""
        lost = nodes.silent() if count else []
        return [RemoteEngine(self.inner, self.room, lost) for _ in range(count)]

    def _check_room(self) -> None:
        """Says that engines wait for room; raises EngineError if none is there and no node has room even when it is idle."""
        if any(engine.node for engine in self.engines) or time.monotonic() - self._heard < ROOM_SECONDS:
            return
        if not any(self.room.fits(node) for node in nodes.living()):
            raise EngineError("the cluster has no node left with room for an engine; the same command goes on once it has")
        if not self._waited:
            self._waited = True
            _LOG.warning("others use the cluster; waiting until it has room for an engine ...")
