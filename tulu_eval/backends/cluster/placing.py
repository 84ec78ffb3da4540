"""What an engine needs of a node, and whether a cluster has room for the engines: arithmetic, which knows no Ray."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tulu_eval.backends.base import EngineSettings
from tulu_eval.errors import PreflightError


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """A living machine of a cluster.

    Attributes:
        id: Ray's name of the node.
        host: Host name, or the address if there is none.
        cpus: CPUs that the node offers to Ray, whoever uses them now.
        gpus: GPUs, likewise.
    """

    id: str
    host: str
    cpus: int
    gpus: int


@dataclasses.dataclass(frozen=True, slots=True)
class Room:
    """What the engines need.

    Attributes:
        cpus: CPUs of one engine.
        gpus: GPUs of one engine; 0 for an engine on CPUs.
        engines: Number of engines.
        spread: GPUs of one engine on several nodes, which the engine itself asks Ray for; 0 if an engine is on one node.
    """

    cpus: int
    gpus: int
    engines: int
    spread: int = 0

    def fits(self, node: Node) -> bool:
        """Whether a node can have an engine, or the process of one that is on several nodes."""
        return node.cpus >= self.cpus and node.gpus >= (1 if self.spread else self.gpus)


def make_room(nodes: Sequence[Node], settings: EngineSettings, over_nodes: bool = False) -> Room:
    """Returns what each engine needs and how many there will be.

    An engine has all the GPUs of its tensor and pipeline parallelism on one node, and one CPU. On CPUs, engines are as large as
    they can be so that all ``data_parallel`` ones have room; as many as fit means one on each node, all of the smallest node's
    size. What other programs use of the cluster now does not count: an engine waits for its room. With ``over_nodes``, one that
    is larger than any node has GPUs of several.

    Raises:
        PreflightError: If no node, or not enough nodes, have what the engines need.
    """
    if settings.data_parallel < 0:
        raise PreflightError(f"--data-parallel must be 1 or more, not {settings.data_parallel}")
    ranks = max(1, settings.tensor_parallel) * max(1, settings.pipeline_parallel)
    on_gpus = settings.device != "cpu" and any(node.gpus for node in nodes)
    if settings.device.startswith("cuda") and not on_gpus:
        raise PreflightError(f"--device {settings.device}: no node of the cluster offers a GPU")
    offered = sorted(node.gpus if on_gpus else node.cpus for node in nodes if not on_gpus or node.cpus)
    kind = "GPU" if on_gpus else "CPU"
    if not offered or offered[-1] < ranks:
        if on_gpus and over_nodes:
            return _spread(sum(offered), settings, ranks)
        raise PreflightError(
            f"an engine needs {_count(ranks, kind)} on one node, and the largest node of the cluster offers "
            f"{offered[-1] if offered else 0}" + ("; --backend vllm has engines over several nodes" if on_gpus else "")
        )
    size = ranks if on_gpus else _cpus_per_engine(offered, settings.data_parallel, ranks)
    most = sum(node // size for node in offered)
    if settings.data_parallel > most:
        raise PreflightError(
            f"--data-parallel {settings.data_parallel} with {_count(ranks, kind)} for each engine: "
            f"the cluster has room for {_count(most, 'engine')}"
        )
    engines = settings.data_parallel or most
    return Room(1, ranks, engines) if on_gpus else Room(size, 0, engines)


def _spread(offered: int, settings: EngineSettings, ranks: int) -> Room:
    """Returns the room of an engine that is larger than any node."""
    if ranks > offered:
        raise PreflightError(f"an engine needs {_count(ranks, 'GPU')}, and all nodes of the cluster together offer {offered}")
    if settings.data_parallel > 1:
        raise PreflightError(f"--data-parallel {settings.data_parallel}: an engine over several nodes is the only one of a run")
    return Room(1, 0, 1, spread=ranks)


def _cpus_per_engine(offered: Sequence[int], engines: int, least: int) -> int:
    """Returns the largest number of CPUs, at least ``least``, of which so many engines, or one for each node, have room."""
    usable = [cpus for cpus in offered if cpus >= least]
    wanted = engines or len(usable)
    sizes = range(usable[-1], least, -1)
    enough = (sum(cpus // size for cpus in usable) >= wanted and (engines or size <= usable[0]) for size in sizes)
    return next((size for size, there in zip(sizes, enough, strict=True) if there), least)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
