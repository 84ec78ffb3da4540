"""The engines on a cluster's nodes as the driver sees them: started, heard, replaced if they die, ended."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

from tulu_eval.backends.base import Backend, EngineSettings, ReloadError, Usage
from tulu_eval.backends.cluster import nodes
from tulu_eval.backends.cluster.actor import LoadOrder, config_of
from tulu_eval.backends.cluster.checking import AnswerLimits
from tulu_eval.backends.cluster.node_messages import ActorPlace, GarbageError, Loaded, NodeReport, read, shown
from tulu_eval.backends.cluster.placing import Room
from tulu_eval.backends.cluster.ray_errors import cause_of, node_died
from tulu_eval.backends.cluster.remote_engine import RemoteEngine
from tulu_eval.backends.cluster.versions import difference, other_engine, versions
from tulu_eval.errors import EngineError, PreflightError, few
from tulu_eval.models.base import ModelFiles

_LOG = logging.getLogger(__name__)

MOST_STARTS = 10
"""Engines that may die while they look or load; then something is wrong with more than a process."""

SILENT_SECONDS = 60.0
"""How long engines may say nothing while a model is looked for or loaded, until the user hears of it."""

POLL_SECONDS = 1.0
"""How often the driver looks around while no engine says anything."""

PLACE_SECONDS = 10.0
"""How long an engine with room may be silent at its start before the others go on without it."""

ASK_SECONDS = 2.0
"""How often nodes are asked whether they are there, while an engine has no place."""

ROOM_SECONDS = 30.0
"""How long a cluster without any engine may take until the user hears of it, and until it is given up if it has no room."""

RELOAD_SECONDS = 600.0
"""How long engines may take to get other weights; then they are ended, and the model is loaded anew."""

CLOSE_SECONDS = 10.0
"""How long idle engines may take to end by themselves."""


class Fleet:
    """All engines of one model: started, then :meth:`look` and :meth:`load`; :mod:`.submission` has them work.

    Attributes:
        inner: Class of the engines.
        room: What each needs, and their number.
        facts: What the first engine that was loaded says of itself; all others must say the same.
        limits: What answers are checked with; set by :meth:`load`.
        dropped: Ray's names of nodes that are not used any more.
        usage: What the engines used; ``None`` if they do not count.
    """

    def __init__(self, inner: type[Backend], room: Room) -> None:
        self.inner, self.room = inner, room
        self._sought: tuple[ModelFiles, EngineSettings, str] | None = None
        self._order: LoadOrder | None = None
        self._versions = versions()
        self._starts, self._late = 0, list[str]()
        self._heard = self._asked = time.monotonic()
        self._waited = False
        self.facts: dict[str, str] = {}
        self.dropped: set[str] = set()
        self.usage: Usage | None = None
        self._placed_now = nodes.free(room)
        self.engines = self._started(room.engines)

    def look(self, model: ModelFiles, settings: EngineSettings) -> None:
        """Waits for the engines that have room now, and has them look for a model on their nodes.

        Raises:
            PreflightError: If a node has other versions, or not this model, or cannot start an engine.
        """
        self._sought = model, settings, config_of(model)
        for engine in self.engines:
            engine.seen = False
            if engine.node and engine.call is None:
                engine.ask(NodeReport, "look", *self._sought)
        while not self._are(lambda engine: engine.seen):
            self._hear()
        self._placed_now = 0  # what is not there by now is not waited for again

    def load(self, order: LoadOrder) -> None:
        """Loads a model into the engines that have room now; the others do so once they have room.

        Raises:
            PreflightError: If a node has other versions, or cannot load the model.
            EngineError: If engines die while they load, or differ.
        """
        self._order, self.limits = order, self._limits_of(order)
        for engine in self.engines:
            if engine.node and engine.call is None:
                engine.ask(Loaded, "load", order)
        while not self._are(lambda engine: engine.ready):
            self._hear()

    def _are(self, there: Callable[[RemoteEngine], bool]) -> bool:
        """Whether some engines have a place, none is late in getting one, and all that have one are there.

        The others go on without an engine that has a place and says nothing for :data:`SILENT_SECONDS`.
        """
        placed, silence = [engine for engine in self.engines if engine.node], time.monotonic() - self._heard
        if not placed or (len(placed) < self._placed_now and silence < PLACE_SECONDS):
            return False
        late = [nodes.host(engine.node) for engine in placed if not there(engine)] if silence > SILENT_SECONDS else []
        if late and late != self._late:
            self._late = late
            _LOG.warning("nothing heard for %d s of engines on %s", SILENT_SECONDS, few(late))
        return all(there(engine) for engine in placed) or (bool(late) and any(there(engine) for engine in placed))

    def _hear(self) -> None:
        """Takes the messages of engines that have no work yet; one that dies is replaced, up to :data:`MOST_STARTS` times."""
        for engine, message in self.incoming():
            if isinstance(message, GarbageError):
                raise EngineError(f"the node {nodes.host(engine.node)} {message}")
            if not isinstance(message, BaseException):
                self.settle(engine, message)
                continue
            self._starts += not self.is_gone(engine, message)
            if self._starts >= MOST_STARTS:
                raise EngineError(
                    f"engines die while they start, the last one on the node {nodes.host(engine.node)}: {cause_of(message)}"
                )
            _LOG.warning(
                "an engine on the node %s ended (%s); another one is started", nodes.host(engine.node), cause_of(message)
            )
            self.replace(engine)

    def fill(self) -> None:
        """Starts the engines that are missing, as after a call that ended early."""
        self._heard = time.monotonic()
        self.engines += self._started(self.room.engines - len(self.engines))

    def reload(self, order: LoadOrder, probe: tuple[int, ...]) -> None:
        """Puts another model's weights into all engines; raises ReloadError if one of them cannot take them."""
        import ray

        if not all(engine.ready and engine.call is None for engine in self.engines):
            raise ReloadError("not all engines of the cluster are there")
        for engine in self.engines:
            engine.ask(Loaded, "reload", order, probe)
        calls = [engine.call for engine in self.engines]
        said, _ = ray.wait(calls, num_returns=len(calls), timeout=RELOAD_SECONDS)
        if silent := [nodes.host(engine.node) for engine in self.engines if engine.call not in said]:
            raise ReloadError(f"the engines on {few(silent)} have said nothing for {RELOAD_SECONDS:g} s")
        for engine in self.engines:
            message, engine.call = _message(engine.call, engine), None
            if isinstance(message, BaseException):
                raise ReloadError(f"an engine on the node {nodes.host(engine.node)}: {cause_of(message)}")
            if message.refused:
                raise ReloadError(message.refusal)
            self.facts = dict(message.facts)
        self._order, self.limits = order, self._limits_of(order)

    def _limits_of(self, order: LoadOrder) -> AnswerLimits:
        longest = order.settings.max_model_len or order.max_length
        return AnswerLimits.of(self.inner, order.model, order.eos_ids, longest)

    def close(self) -> None:
        """Ends all engines, idle ones in order."""
        import ray

        idle = [engine.actor.close.remote() for engine in self.engines if engine.ready and engine.call is None]
        with contextlib.suppress(ray.exceptions.RayError):
            ray.wait(idle, num_returns=len(idle), timeout=CLOSE_SECONDS) if idle else None
        for engine in self.engines:
            engine.kill()
        self.engines = []

    def incoming(self) -> Iterator[tuple[RemoteEngine, object]]:
        """Yields what engines said, or the error of one that is gone or speaks garbage; waits at most :data:`POLL_SECONDS`."""
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
            if engine.call is call:  # it may have been replaced meanwhile
                engine.call, engine.heard = None, time.monotonic()
                yield engine, _message(call, engine)

    def _move(self) -> None:
        """Starts those engines anew that Ray may be about to put on a node which was lost meanwhile."""
        without = [engine for engine in self.engines if not engine.node]
        if without and time.monotonic() - self._asked > ASK_SECONDS:
            lost, self._asked = {*nodes.silent(), *self.dropped}, time.monotonic()
            for engine in [one for one in without if lost - set(one.shunned)]:
                self.replace(engine)

    def settle(self, engine: RemoteEngine, message: object) -> None:
        """Takes what an engine says that has no work yet: where it is, or that it is loaded."""
        host = nodes.host(engine.node)
        if isinstance(message, ActorPlace):
            engine.node, host = message.node, nodes.host(message.node)
            if different := difference(host, message.versions, self._versions):
                raise PreflightError(shown(different))
            if self._order is not None:
                engine.ask(Loaded, "load", self._order)
            elif self._sought is not None:
                engine.ask(NodeReport, "look", *self._sought)
        elif isinstance(message, NodeReport):
            if message.trouble:
                raise PreflightError(f"the node {host} {message.trouble}")
            engine.seen = True
        elif isinstance(message, Loaded):
            if message.refused:
                raise PreflightError(f"the node {host}: {message.refusal}")
            self.facts = self.facts or dict(message.facts)
            if different := other_engine(host, message.facts, self.facts):
                raise EngineError(different)
            self.usage = self.usage or (Usage() if message.counts else None)
            engine.ready = True

    def is_gone(self, engine: RemoteEngine, error: BaseException) -> bool:
        """Whether an engine went with its node, for which nobody is to blame; otherwise it died.

        Raises:
            PreflightError: If a node cannot start an engine at all.
        """
        import ray

        if not engine.node and "creation task" in str(error):
            said = f"a node of the cluster cannot start an engine of this tulu-eval: {cause_of(error)}"
            raise PreflightError(said) from error
        gone = node_died(error) or (bool(engine.node) and engine.node not in {node.id for node in nodes.living()})
        return gone or isinstance(error, ray.exceptions.ActorUnavailableError)

    def drop(self, node: str, cause: str) -> None:
        """Uses a node no more, whose engines end and are started elsewhere; ``cause`` goes on after the node's name.

        Raises:
            EngineError: If no other node has room for an engine, even when it is idle.
        """
        self.dropped.add(node)
        said = f"the node {nodes.host(node)} {cause}"
        if not any(self.room.fits(other) for other in nodes.living() if other.id not in self.dropped):
            raise EngineError(f"{said}; no other node has room for an engine")
        _LOG.warning("%s; the run goes on without it, and keeps what it answered before", said)
        for engine in [one for one in self.engines if one.node == node]:
            self.replace(engine)

    def replace(self, engine: RemoteEngine) -> None:
        """Ends an engine and starts another in its place."""
        engine.kill()
        (self.engines[self.engines.index(engine)],) = self._started(1)

    def _started(self, count: int) -> list[RemoteEngine]:
        """Starts engines, none of them on a node that does not answer or is not used any more."""
        shunned = sorted({*nodes.silent(), *self.dropped}) if count else []
        return [RemoteEngine(self.inner, self.room, shunned) for _ in range(count)]

    def _check_room(self) -> None:
        """Says that engines wait for room; raises EngineError if none is there and no node has room even when it is idle."""
        if any(engine.node for engine in self.engines) or time.monotonic() - self._heard < ROOM_SECONDS:
            return
        if not any(self.room.fits(node) for node in nodes.living() if node.id not in self.dropped):
            raise EngineError("the cluster has no node left with room for an engine; the same command goes on once it has")
        if not self._waited:
            self._waited = True
            _LOG.warning("others use the cluster; waiting until it has room for an engine ...")


def _message(call: Any, engine: RemoteEngine) -> Any:
    """Returns what an engine said, or the error of Ray's that says why it is gone, or of a message that is none."""
    import ray

    try:
        return read(ray.get(call), engine.expects)
    except GarbageError as error:
        return error
    except ray.exceptions.RayActorError as error:
        return error
    except Exception as error:  # of a method that raised, or of a message that cannot be unpickled: of any class
        return GarbageError(f"sent an error: {cause_of(error)}")
