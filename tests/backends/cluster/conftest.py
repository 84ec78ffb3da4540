"""A real Ray cluster of two nodes on this machine: two raylets, each with one CPU, and one GPU that is not there."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from plugins import engines

from tulu_eval.backends.base import EngineSettings
from tulu_eval.backends.cluster import connection
from tulu_eval.runs.order import Order

TESTS = Path(__file__).parents[2]
NODE = {"num_cpus": 1, "num_gpus": 1, "object_store_memory": 80_000_000}


PATIENCE = 300
"""Seconds that a start may take on a busy machine."""


def patiently(get_node: Callable[..., Any]) -> Callable[..., Any]:
    """Waits for a node that is starting: ``Node.__init__`` (2.60) asks until a limit of 30 s that nothing sets."""

    def ask(*what: Any) -> Any:
        last = time.monotonic() + PATIENCE
        while True:
            try:
                return get_node(*what)
            except RuntimeError:
                if time.monotonic() > last:
                    raise
                time.sleep(0.05)

    return ask


class TwoNodes:
    """The cluster, with Ray's own health checks; its second node can be killed and started again.

    Attributes:
        address: What ``--cluster`` takes.
        brake: A file; while it is there, engines of the kind ``Braked`` are slow.
    """

    def __init__(self, folder: Path) -> None:
        from ray.cluster_utils import Cluster

        head = {**NODE, "include_dashboard": False, "temp_dir": str(folder / "ray")}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self.address: str = self._cluster.address
        self.brake = Path(os.environ[engines.BRAKE])
        self._second: Any = None
        self.start_second()

    def start_second(self) -> None:
        """Adds the second node, unless it is there."""
        if self._second is None:
            self._second = self._cluster.add_node(**NODE)

    def kill_second(self) -> None:
        """Kills all processes of the second node, as a power cut does."""
        self._cluster.remove_node(self._second, allow_graceful=False)
        self._second = None

    @property
    def second(self) -> str:
        """Ray's name of the second node."""
        return str(self._second.node_id)

    def stop(self) -> None:
        self._cluster.shutdown()


@pytest.fixture(scope="session")
def nodes() -> Iterator[TwoNodes]:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed (pip install ray)")
    folder = Path(tempfile.mkdtemp(prefix="tulu-eval-nodes-"))
    patch = pytest.MonkeyPatch()
    patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    patch.setenv("RAY_TMPDIR", str(folder))  # for the cluster's address, which Ray writes to /tmp/ray, present or not
    patch.setenv("RAY_memory_monitor_refresh_ms", "0")  # what else uses this machine's memory must kill no engine
    patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH", "")])))
    patch.setenv(engines.BRAKE, str(folder / "brake"))
    # On a busy machine all of that takes longer: a node's start (Ray: 30 s), the GCS's (20 s), an actor's process's (60 s).
    patch.setattr("ray._private.services.get_node", patiently(importlib.import_module("ray._private.services").get_node))
    patch.setenv("RAY_gcs_server_port_wait_time_s", str(PATIENCE))
    patch.setenv("RAY_worker_register_timeout_seconds", str(PATIENCE))
    patch.setenv(engines.LIES, str(folder / "lies"))
    (folder / "lies").touch()
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    cluster = TwoNodes(folder)
    yield cluster
    cluster.stop()
    patch.undo()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def cluster(nodes: TwoNodes) -> TwoNodes:
    """The cluster with both nodes."""
    nodes.start_second()
    return nodes


@pytest.fixture
def connected(cluster: TwoNodes) -> Iterator[TwoNodes]:
    """The cluster with a connection that stays for the test."""
    connection.connect(cluster.address)
    yield cluster
    connection.disconnect()


@pytest.fixture
def order(llama3_like: Path, rows: Path, tmp_path: Path) -> Order:
    """An order that runs in a second: a tiny random model in float32 on twelve made-up rows."""
    settings = EngineSettings(dtype="float32", device="cpu", batch_size=4)
    return Order("gsm8k", str(llama3_like), protocol="custom", data=rows, settings=settings, output=tmp_path / "results")


@pytest.fixture
def wider(llama3_like: Path, tmp_path: Path) -> Path:
    """The tiny model with attention heads as wide as vLLM's CPU build takes them."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path / "wider"
    shutil.copytree(llama3_like, folder)
    torch.manual_seed(1)
    config = LlamaConfig.from_pretrained(folder, hidden_size=64, num_attention_heads=2, head_dim=32)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder
