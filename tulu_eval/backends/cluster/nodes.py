"""The nodes of the cluster that this process is connected to: which of them live, and which have room now.

Ray lists a lost node until its health checks fail (2.60: 20 s by default), and meanwhile counts it as room and puts actors on
it. So each node is asked: a raylet that was killed refuses a connection at once.
"""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tulu_eval.backends.cluster.placing import Node, Room

ANSWER_SECONDS = 3.0
"""How long a node may take to answer until it counts as lost; a connection whose first packet was lost takes one second."""

MOST_ASKED = 32
"""Nodes that are asked at one time whether they are there."""


def living() -> list[Node]:
    """Returns the cluster's living nodes: those that Ray lists and that answer."""
    return [_node(one) for one, there in _asked() if there]


def silent() -> list[str]:
    """Returns Ray's names of the nodes that it lists and that do not answer; seldom any."""
    return [one["NodeID"] for one, there in _asked() if not there]


def host(node: str) -> str:
    """Returns the host of a node by Ray's name of it; a lost one has its host, too."""
    import ray

    return next((_node(one).host for one in ray.nodes() if one["NodeID"] == node), "(not known yet)")


def free(room: Room) -> int:
    """Returns about how many engines have room beside what others use now; the cluster hears of changes after a moment."""
    import ray

    now = ray._private.state.available_resources_per_node()
    needs = [(kind, need) for kind, need in (("CPU", room.cpus), ("GPU", room.gpus)) if need]
    places = [min(int(now.get(node.id, {}).get(kind, 0) // need) for kind, need in needs) for node in living()]
    return min(room.engines, sum(places))


def _node(listed: dict[str, Any]) -> Node:
    offered = listed.get("Resources", {})
    name = listed.get("NodeManagerHostname") or listed.get("NodeManagerAddress", "")
    return Node(listed["NodeID"], name, int(offered.get("CPU", 0)), int(offered.get("GPU", 0)))


def _asked() -> list[tuple[dict[str, Any], bool]]:
    """Returns the nodes that Ray lists as alive, each with whether its raylet takes a connection; asks all at one time."""
    import ray

    listed = [one for one in ray.nodes() if one["Alive"]]
    with ThreadPoolExecutor(max_workers=MOST_ASKED) as pool:
        return list(zip(listed, pool.map(_answers, listed), strict=True))


def _answers(listed: dict[str, Any]) -> bool:
    try:
        socket.create_connection((listed["NodeManagerAddress"], listed["NodeManagerPort"]), ANSWER_SECONDS).close()
    except OSError:
        return False
    return True
