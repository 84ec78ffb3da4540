"""One engine on a node as the driver sees it: Ray's handle, and what it was asked."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Any

from tulu_eval.backends.base import Backend
from tulu_eval.backends.cluster import nodes
from tulu_eval.backends.cluster.actor import EngineActor
from tulu_eval.backends.cluster.dealing import Share
from tulu_eval.backends.cluster.node_messages import ActorPlace, Answer
from tulu_eval.backends.cluster.placing import Room
from tulu_eval.logprobs import AnyRequest, Choice, ChoiceRequest, Scores
from tulu_eval.records import Completion, Request


class RemoteEngine:
    """An engine that is starting, or has started.

    Args:
        inner: Class of the engine.
        room: What it needs of its node.
        shunned: Ray's names of nodes that it must not be on.

    Attributes:
        actor: Ray's handle.
        call: Ray's reference to the one pending call; ``None`` if the engine waits for work.
        expects: Kind of the message that answers it.
        heard: When it last said something, in ``time.monotonic`` seconds.
        node: Ray's name of its node; empty until it has one.
        shunned: As given.
        seen: Whether the model was found on its node.
        ready: Whether the model is loaded.
        share: The requests that it works on; ``None`` if it has none.
    """

    def __init__(self, inner: type[Backend], room: Room, shunned: Sequence[str] = ()) -> None:
        import ray

        how: dict[str, Any] = {"num_cpus": room.cpus, "num_gpus": room.gpus, "max_restarts": 0, "max_concurrency": 2}
        if shunned:
            how["label_selector"] = {"ray.io/node-id": f"!in({','.join(shunned)})"}
        where = _first_node() if room.spread else "SPREAD"
        self.actor: Any = (
            ray.remote(EngineActor).options(scheduling_strategy=where, **how).remote(inner, spread=bool(room.spread))
        )
        self.call: Any = None
        self.expects: type[Any] = ActorPlace
        self.heard = time.monotonic()
        self.ask(ActorPlace, "place")
        self.node, self.shunned = "", tuple(shunned)
        self.seen = self.ready = False
        self.share: Share[Any] | None = None

    def ask(self, expects: type[Any], method: str, *what: object) -> None:
        """Calls a method of the actor, which answers with a message of the kind."""
        self.call, self.expects, self.heard = getattr(self.actor, method).remote(*what), expects, time.monotonic()

    @property
    def silence(self) -> float:
        """Seconds since it last said something, or was asked."""
        return time.monotonic() - self.heard

    def kill(self) -> None:
        """Ends its process, whatever it does."""
        import ray

        self.share = self.call = None
        with contextlib.suppress(ray.exceptions.RayError):
            ray.kill(self.actor)


def _first_node() -> Any:
    """Returns Ray's setting for the node with the most GPUs: vLLM's executor wants a GPU on the node of its own process."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(max(nodes.living(), key=lambda node: node.gpus).id, soft=True)


def failed(request: AnyRequest, cause: str) -> Answer:
    """Returns the answer to a request that no engine survives."""
    if isinstance(request, Request):
        return Completion(request.key, "", (), "error", 0.0, cause)
    return Choice(request.key, (), 0.0, cause) if isinstance(request, ChoiceRequest) else Scores(request.key, (), 0.0, cause)
