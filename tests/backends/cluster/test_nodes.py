"""A node that was killed a moment ago is neither counted nor used, though Ray lists it and would put an engine on it."""

from __future__ import annotations

from typing import Any

from plugins import engines

from tulu_eval.backends.cluster import nodes
from tulu_eval.backends.cluster.node_messages import ActorPlace, read
from tulu_eval.backends.cluster.placing import Room
from tulu_eval.backends.cluster.remote_engine import RemoteEngine


def test_a_lost_node_is_no_room_and_gets_no_engine(connected: Any) -> None:
    """Its successor gets the engine, long before Ray's health checks notice the loss."""
    import ray

    room = Room(cpus=1, gpus=1, engines=3)
    lost = connected.second
    before = {node.id for node in nodes.living()}
    assert (len(before), lost in nodes.silent(), nodes.free(room)) == (2, False, 2)
    connected.kill_second()
    assert lost in nodes.silent()
    assert [node.id for node in nodes.living()] == list(before - {lost})
    assert nodes.free(room) == 1
    assert nodes.host(lost) == nodes.host(nodes.living()[0].id) != ""  # of one machine
    assert lost in {one["NodeID"] for one in ray.nodes() if one["Alive"]}  # as Ray has it
    both = [RemoteEngine(engines.Engine, Room(1, 1, 2), nodes.silent()) for _ in range(2)]
    connected.start_second()
    # An engine that Ray had put on the lost node would die in place of answering, however slow this machine is.
    placed = {read(place, ActorPlace).node for place in ray.get([engine.call for engine in both], timeout=300)}
    assert placed == {node.id for node in nodes.living()}
    for engine in both:
        engine.kill()
