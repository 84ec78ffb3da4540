"""What engines need of nodes of many kinds, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from tulu_eval.backends.base import EngineSettings
from tulu_eval.backends.cluster.placing import Node, Room, make_room
from tulu_eval.errors import PreflightError


def cpu(*cpus: int) -> list[Node]:
    return [Node(f"n{place}", f"host{place}", count, 0) for place, count in enumerate(cpus)]


def gpu(*gpus: int) -> list[Node]:
    return [Node(f"n{place}", f"host{place}", 16, count) for place, count in enumerate(gpus)]


@pytest.mark.parametrize(
    ("nodes", "settings", "room"),
    [
        (gpu(8, 8), {"tensor_parallel": 2, "data_parallel": 0}, Room(1, 2, 8)),
        (gpu(8, 8), {"tensor_parallel": 4, "pipeline_parallel": 2, "data_parallel": 0}, Room(1, 8, 2)),
        (gpu(8, 3), {"tensor_parallel": 2, "data_parallel": 0}, Room(1, 2, 5)),
        (gpu(8, 8), {"tensor_parallel": 2, "data_parallel": 3}, Room(1, 2, 3)),
        ([*gpu(4), *cpu(64)], {"data_parallel": 0}, Room(1, 1, 4)),
        ([*gpu(4), *cpu(64)], {"data_parallel": 0, "device": "cpu"}, Room(16, 0, 5)),
        (cpu(32, 32), {"data_parallel": 0}, Room(32, 0, 2)),
        (cpu(32, 8), {"data_parallel": 0}, Room(8, 0, 5)),
        (cpu(32, 8), {"data_parallel": 1}, Room(32, 0, 1)),
        (cpu(32, 32), {"data_parallel": 3}, Room(16, 0, 3)),
        (cpu(32, 32), {"data_parallel": 64}, Room(1, 0, 64)),
        (cpu(4, 4, 0), {"data_parallel": 0, "tensor_parallel": 2}, Room(4, 0, 2)),
    ],
)
def test_engines_are_placed_by_what_they_need(nodes: list[Node], settings: dict[str, Any], room: Room) -> None:
    assert make_room(nodes, EngineSettings(cluster="ray", **settings)) == room


@pytest.mark.parametrize(
    ("nodes", "settings", "said"),
    [
        (gpu(8, 8), {"tensor_parallel": 16}, "an engine needs 16 GPUs on one node, .* offers 8; --backend vllm has"),
        (cpu(8, 8), {"tensor_parallel": 16}, "an engine needs 16 CPUs on one node, .* offers 8$"),
        (gpu(8, 3), {"tensor_parallel": 2, "data_parallel": 6}, "--data-parallel 6 with 2 GPUs .* room for 5 engines"),
        (cpu(8), {"device": "cuda"}, "--device cuda: no node of the cluster offers a GPU"),
        (cpu(8), {"data_parallel": 9}, "--data-parallel 9 with 1 CPU .* room for 8 engines"),
        (cpu(0), {}, "an engine needs 1 CPU on one node, and the largest node of the cluster offers 0"),
        ([], {}, "offers 0"),
        (cpu(8), {"data_parallel": -1}, "--data-parallel must be 1 or more"),
    ],
)  # fmt: skip
def test_a_cluster_without_room_is_one_line(nodes: list[Node], settings: dict[str, Any], said: str) -> None:
    with pytest.raises(PreflightError, match=said):
        make_room(nodes, EngineSettings(cluster="ray", **settings))


def test_an_engine_larger_than_any_node_is_spread_where_the_backend_can() -> None:
    def room(nodes: list[Node], **settings: Any) -> Room:
        return make_room(nodes, EngineSettings(cluster="ray", **settings), over_nodes=True)

    assert room(gpu(8, 8), tensor_parallel=8, pipeline_parallel=2, data_parallel=0) == Room(1, 0, 1, spread=16)
    assert room(gpu(8, 8), tensor_parallel=8, data_parallel=0) == Room(1, 8, 2)
    assert [Room(1, 0, 1, spread=16).fits(node) for node in [*gpu(1, 8), *cpu(8)]] == [True, True, False]
    for nodes, settings, said in [
        (gpu(8, 4), {"tensor_parallel": 16}, "an engine needs 16 GPUs, and all nodes of the cluster together offer 12"),
        (gpu(8, 8), {"tensor_parallel": 16, "data_parallel": 2}, "an engine over several nodes is the only one of a run"),
        (cpu(8, 8), {"tensor_parallel": 16}, "an engine needs 16 CPUs on one node"),
    ]:
        with pytest.raises(PreflightError, match=said):
            room(nodes, **settings)


def test_a_room_fits_nodes_with_enough_of_both() -> None:
    assert [Room(1, 2, 1).fits(node) for node in [*gpu(1, 2, 8), *cpu(64)]] == [False, True, True, False]
