"""A backend whose engines are on the nodes of a Ray cluster, each of them an engine of another backend.

The driver holds no model. It deals requests from one queue (:mod:`~tulu_eval.backends.cluster.dealing`) to actors, which are
placed by the GPUs or CPUs that an engine needs, and yields the answers as they come, so that everything that a run promises of
its one ledger holds. What an answer depends on is the engine, not the cluster: a run's identity has nothing of it.

Ray makes sure that nothing outlives the driver: a cluster of our own dies with it, and so do its actors on another's cluster.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self, TypeVar

from tulu_eval.backends.base import Backend, EngineSettings, Usage
from tulu_eval.backends.cluster import connection
from tulu_eval.backends.cluster.actor import LoadOrder, NodeReport, look
from tulu_eval.backends.cluster.fleet import Fleet, cause_of
from tulu_eval.backends.cluster.placing import Node, Room, make_room
from tulu_eval.backends.cluster.versions import difference, versions
from tulu_eval.errors import EngineError, PreflightError
from tulu_eval.logprobs import AnyRequest, Choice, ChoiceRequest, ScoreRequest, Scores
from tulu_eval.models.base import ModelFiles
from tulu_eval.records import Completion, Decoding, Request

NO_DECODING = Decoding(1)
"""For requests on which decoding has no effect."""

A = TypeVar("A", Completion, Choice, Scores)


class ClusterBackend(Backend):
    """Engines of one backend on a cluster; :func:`on_cluster` makes the class for a backend.

    Attributes:
        inner: Class of the engines.
    """

    name: ClassVar[str] = "cluster"
    local: ClassVar[bool] = False
    inner: ClassVar[type[Backend]]

    def __init__(self, fleet: Fleet, room: Room) -> None:
        self._fleet: Fleet | None = fleet
        self._room = room

    @classmethod
    def check(cls, model: ModelFiles, settings: EngineSettings) -> None:
        """Connects to the cluster and looks at its nodes; loads nothing.

        Raises:
            PreflightError: If there is no cluster or no room in it, or nodes have other versions, or not this model.
        """
        _find_room(model, settings)

    @classmethod
    def load(cls, model: ModelFiles, settings: EngineSettings, eos_ids: tuple[int, ...], max_length: int) -> Self:
        """Starts the engines and waits for those that have room now; the others join when there is room for them."""
        room = _find_room(model, settings)
        order = LoadOrder(model, _of_engine(settings), eos_ids, max_length)
        fleet = Fleet(cls.inner, order, room)
        try:
            fleet.wait()
        except BaseException:
            fleet.close()
            raise
        return cls(fleet, room)

    def reload(
        self, model: ModelFiles, settings: EngineSettings, eos_ids: tuple[int, ...], max_length: int, probe: tuple[int, ...]
    ) -> None:
        """Puts another checkpoint's weights into all engines; raises ReloadError if one of them cannot take them."""
        order = LoadOrder(model, _of_engine(settings), eos_ids, max_length)
        self._running().reload(order, probe)

    def generate(self, requests: Sequence[Request], decoding: Decoding) -> Iterator[Completion]:
        """Yields one completion per request, as they come from the engines; the requests have different keys.

        The completion of a request with which three engines died is an error.
        """
        yield from self._ask(requests, decoding, Completion)

    def choose(self, requests: Sequence[ChoiceRequest]) -> Iterator[Choice]:
        """Yields log-probabilities of each request's candidates, likewise."""
        yield from self._ask(requests, NO_DECODING, Choice)

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[Scores]:
        """Yields log-probabilities of each request's continuations, likewise."""
        yield from self._ask(requests, NO_DECODING, Scores)

    def _ask(self, requests: Sequence[AnyRequest], decoding: Decoding, kind: type[A]) -> Iterator[A]:
        for answer in self._running().work(requests, decoding):
            if not isinstance(answer, kind):
                raise EngineError(f"an engine answered with a {type(answer).__name__}")
            yield answer

    def _running(self) -> Fleet:
        if self._fleet is None:
            raise EngineError("the cluster's engines are closed")
        return self._fleet

    def describe(self) -> dict[str, str]:
        """Returns what the engines say of themselves, which is the same for all, and their number."""
        return {**self._running().facts, "data_parallel": str(self._room.engines)}

    def usage(self) -> Usage | None:
        """Returns tokens and seconds over all engines, if these count them."""
        return self._fleet.usage if self._fleet else None

    def close(self) -> None:
        """Ends all engines; the connection stays for the next ones (``connection.disconnect``)."""
        if self._fleet is not None:
            self._fleet.close()
            self._fleet = None


@functools.lru_cache(maxsize=16)
def on_cluster(inner: type[Backend]) -> type[ClusterBackend]:
    """Returns the backend whose engines on a cluster are those of another one."""
    return type("ClusterBackend", (ClusterBackend,), {"inner": inner, "name": inner.name, "kinds": inner.kinds})


def _of_engine(settings: EngineSettings) -> EngineSettings:
    """Returns the settings of one engine on a node."""
    return dataclasses.replace(settings, cluster=None, data_parallel=1)


def _find_room(model: ModelFiles, settings: EngineSettings) -> Room:
    """Connects, and returns what the engines need; raises PreflightError if a node that could have one cannot run it."""
    connection.connect(connection.LOCAL if settings.cluster is None else settings.cluster)
    nodes = connection.nodes()
    while True:
        room = make_room(nodes, settings)
        gone = _look_around([node for node in nodes if room.fits(node)], model, settings)
        if not gone:
            return room
        nodes = [node for node in nodes if node not in gone]


def _look_around(nodes: Sequence[Node], model: ModelFiles, settings: EngineSettings) -> list[Node]:
    """Looks at nodes, side by side; returns those that are gone: a cluster lists a lost node for some seconds.

    Raises:
        PreflightError: If a node has other versions, or not this model.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    def ask(node: Node) -> Any:
        there = NodeAffinitySchedulingStrategy(node.id, soft=False)
        task = ray.remote(look).options(num_cpus=0, max_retries=0, scheduling_strategy=there)
        return task.remote(model, _of_engine(settings))

    here, gone = versions(), []
    for node, asked in [(node, ask(node)) for node in nodes]:
        try:
            seen: NodeReport = ray.get(asked)
        except (ray.exceptions.TaskUnschedulableError, ray.exceptions.NodeDiedError):
            gone.append(node)
            continue
        except ray.exceptions.RayError as error:
            raise PreflightError(f"the node {node.host} cannot run tulu-eval: {cause_of(error)}") from error
        if different := difference(node.host, seen.versions, here):
            raise PreflightError(different)
        if seen.trouble:
            raise PreflightError(f"the node {node.host} cannot use {model.name}: {seen.trouble}")
    return gone
