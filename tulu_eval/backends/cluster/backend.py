"""A backend whose engines are on the nodes of a Ray cluster, each of them an engine of another backend.

The driver holds no model. It deals requests from one queue (:mod:`~tulu_eval.backends.cluster.dealing`) to actors, which are
placed by the GPUs or CPUs that an engine needs, and yields the answers as they come, so that everything that a run promises of
its one ledger holds. What an answer depends on is the engine, not the cluster: a run's identity has nothing of it.

Ray makes sure that nothing outlives the driver: a cluster of our own dies with it, and so do its actors on another's cluster.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import ClassVar, Self, TypeVar

from tulu_eval.backends.base import Backend, EngineSettings, Usage
from tulu_eval.backends.cluster import connection, nodes
from tulu_eval.backends.cluster.actor import LoadOrder, config_of
from tulu_eval.backends.cluster.fleet import Fleet
from tulu_eval.backends.cluster.placing import make_room
from tulu_eval.backends.cluster.submission import Submission
from tulu_eval.errors import EngineError
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

    def __init__(self, fleet: Fleet) -> None:
        self._fleet: Fleet | None = fleet

    @classmethod
    def check(cls, model: ModelFiles, settings: EngineSettings) -> None:
        """Connects to the cluster, starts the engines' processes, and has them look at their nodes; loads nothing.

        Raises:
            PreflightError: If there is no cluster or no room in it, or nodes have other versions, or not this model.
        """
        fleet = _fleet(cls.inner, settings)
        with _closing_if_it_fails(fleet):
            fleet.look(model, _of_engine(settings))
        _checked.append(fleet)

    @classmethod
    def load(cls, model: ModelFiles, settings: EngineSettings, eos_ids: tuple[int, ...], max_length: int) -> Self:
        """Loads the engines that have room now; the others join when there is room for them."""
        fleet = _fleet(cls.inner, settings)
        with _closing_if_it_fails(fleet):
            fleet.load(LoadOrder(model, config_of(model), _of_engine(settings), eos_ids, max_length))
        return cls(fleet)

    def reload(
        self, model: ModelFiles, settings: EngineSettings, eos_ids: tuple[int, ...], max_length: int, probe: tuple[int, ...]
    ) -> None:
        """Puts another checkpoint's weights into all engines; raises ReloadError if one of them cannot take them."""
        order = LoadOrder(model, config_of(model), _of_engine(settings), eos_ids, max_length)
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
        fleet = self._running()
        fleet.fill()
        for answer in Submission(fleet, requests, decoding).run():
            if not isinstance(answer, kind):
                raise EngineError(f"an engine answered with a {type(answer).__name__}")
            yield answer

    def _running(self) -> Fleet:
        if self._fleet is None:
            raise EngineError("the cluster's engines are closed")
        return self._fleet

    def describe(self) -> dict[str, str]:
        """Returns what the engines say of themselves, which is the same for all, and their number."""
        return {**self._running().facts, "data_parallel": str(self._running().room.engines)}

    def usage(self) -> Usage | None:
        """Returns tokens and seconds over all engines, if these count them."""
        return self._fleet.usage if self._fleet else None

    def close(self) -> None:
        """Ends all engines; the connection stays for the next ones (:func:`leave`)."""
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


@contextlib.contextmanager
def _closing_if_it_fails(fleet: Fleet) -> Iterator[None]:
    try:
        yield
    except BaseException:
        fleet.close()
        raise


def leave() -> None:
    """Ends engines that were started for a check and never loaded, and closes the connection if this program opened it."""
    while _checked:
        _checked.pop().close()
    connection.disconnect()


_checked: list[Fleet] = []
"""The engines that looked at their nodes and have no model yet: at most one fleet, which the next load takes."""


def _fleet(inner: type[Backend], settings: EngineSettings) -> Fleet:
    """Connects, and returns engines without a model: those of an earlier check if they are the same, else new ones."""
    connection.connect(connection.LOCAL if settings.cluster is None else settings.cluster)
    room = make_room(nodes.living(), settings, inner.over_nodes)
    while _checked:
        fleet = _checked.pop()
        if (fleet.inner, fleet.room) == (inner, room):
            return fleet
        fleet.close()
    return Fleet(inner, room)
