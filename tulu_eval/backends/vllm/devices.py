"""What is here for vLLM to run on: CUDA devices, processor cores, memory, a Ray cluster. Nothing heavy is imported.

GPUs are asked for through ``nvidia-smi``, which, unlike CUDA itself, takes no memory on them.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import subprocess
from pathlib import Path


@dataclasses.dataclass(frozen=True, slots=True)
class Gpu:
    """A CUDA device.

    Attributes:
        index: In the order of the PCI bus.
        uuid: As in ``CUDA_VISIBLE_DEVICES``.
        total: Memory in bytes.
        free: Memory that nobody uses, in bytes.
        capability: CUDA compute capability.
    """

    index: str
    uuid: str
    name: str
    total: int
    free: int
    capability: tuple[int, int]


def gpus() -> tuple[Gpu, ...]:
    """Returns the CUDA devices that ``CUDA_VISIBLE_DEVICES`` leaves, in its order; none where there is no ``nvidia-smi``."""
    query = ["nvidia-smi", "--query-gpu=index,uuid,name,memory.total,memory.free,compute_cap", "--format=csv,noheader,nounits"]
    try:
        shown = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout  # noqa: S603
        found = [_gpu(line) for line in shown.splitlines() if line.strip()]
    except (OSError, ValueError, subprocess.SubprocessError):
        return ()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return tuple(found)
    chosen = []
    for word in filter(None, (part.strip() for part in visible.split(","))):
        match = [gpu for gpu in found if gpu.index == word or (word.startswith("GPU-") and gpu.uuid.startswith(word))]
        if not match:
            break  # CUDA, too, ignores what follows a device that is not there
        chosen.append(match[0])
    return tuple(chosen)


def _gpu(line: str) -> Gpu:
    index, uuid, name, total, free, capability = (part.strip() for part in line.split(","))
    major, minor = capability.split(".")
    return Gpu(index, uuid, name, int(total) * 2**20, int(free) * 2**20, (int(major), int(minor)))


def free_memory() -> int:
    """Returns the bytes that a CPU engine can take: it stays on one NUMA node, so what the freest node has.

    A node's free memory is counted as vLLM's CPU worker counts it (vllm 0.32, ``utils/cpu_resource_utils.py``).
    """
    import psutil

    nodes = []
    for file in Path("/sys/devices/system/node").glob("node[0-9]*/meminfo"):
        parts = {words[2]: int(words[3]) for line in file.read_text().splitlines() if len(words := line.split()) > 3}
        free = ("MemFree:", "Active(file):", "Inactive(file):", "SReclaimable:")
        nodes.append(1024 * sum(parts.get(name, 0) for name in free))
    available = int(psutil.virtual_memory().available)
    return min(available, max(nodes, default=available))


def usable_cores() -> tuple[int, ...]:
    """Returns the CPU cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def ray_cluster() -> bool:
    """Whether ray is installed and a process here would find a running cluster: by ``RAY_ADDRESS``, or started on this machine.

    ``ray start`` writes the address into a file in its folder, where ``ray.init()``, which vLLM calls, looks for it.
    """
    if importlib.util.find_spec("ray") is None:
        return False
    folder = os.environ.get("RAY_TMPDIR", "/tmp")  # noqa: S108 - where ray has it
    return bool(os.environ.get("RAY_ADDRESS")) or Path(folder, "ray", "ray_current_cluster").is_file()
