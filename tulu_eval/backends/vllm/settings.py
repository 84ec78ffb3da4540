"""From a model and engine settings to what one engine is built from: vLLM's arguments, devices and environment."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tulu_eval.backends.base import EngineSettings
from tulu_eval.backends.vllm import devices as devices
from tulu_eval.backends.vllm import extension
from tulu_eval.backends.vllm import preflight as preflight
from tulu_eval.backends.vllm.messages import Spec
from tulu_eval.backends.vllm.preflight import LORA_RANKS
from tulu_eval.backends.vllm.weight_stream import STREAM
from tulu_eval.caching import read_json
from tulu_eval.models.base import ModelFiles

CPU_ENVIRONMENT = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "GOMP_SPINCOUNT": "0", "OMP_WAIT_POLICY": "passive"}
"""The same for a CPU engine, whose core stays in the engine's own process.

vLLM would start two more processes, which import everything again, and leave one core to the first: 36 s to start instead
of 17 s. Threads that wait must not spin: with two spinning ones on two cores that others used too, SmolLM2-135M made 28 tokens
a second, with these settings 178. (Measured on a busy machine of 2 cores; ``benchmarks/vllm_throughput.py`` measures both.)
"""

CPU_ROWS = 64
"""Longest requests that a CPU engine has room for at once; filling its cache takes 3 s a GiB when it starts."""

ENVIRONMENT = {
    "VLLM_LOGGING_LEVEL": "INFO",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    "TOKENIZERS_PARALLELISM": "false",
}
"""What an engine's environment says unless the user's does. Logs go to a file, from which failures are explained."""


RECEIVER = "tulu_eval.backends.vllm.stream_receiver.ReceivingExtension"
"""vLLM's argument ``worker_extension_cls`` where weights come through a socket."""

IPC = "ipc"
"""vLLM's name for transfers of weights through the memory of a GPU that trainer and engine share."""


def make_spec(
    model: ModelFiles, settings: EngineSettings, eos_ids: tuple[int, ...], positions: int, number: int, transfer: str = ""
) -> Spec:
    """Returns what engine ``number`` of ``data_parallel`` is built from; the longest request has ``positions`` tokens.

    ``transfer`` says how weights will come from a trainer: a backend of vLLM's ``WeightTransferConfig``; empty if none will.
    """
    on_cpu = preflight.cpu_build()
    config = read_json(model.path / "config.json")
    engine: dict[str, Any] = {
        "model": str(model.path),
        "dtype": preflight.resolved_dtype(model, settings),
        "max_model_len": positions,
        "tensor_parallel_size": settings.tensor_parallel,
        "pipeline_parallel_size": settings.pipeline_parallel,
        "gpu_memory_utilization": settings.gpu_memory_utilization,
        "quantization": settings.quantization or None,
        "trust_remote_code": settings.trust_remote_code,
        "generation_config": "vllm",
        # Its own choice is Mistral's format wherever a consolidated*.safetensors lies beside the shards (vllm 0.32,
        # model_executor/model_loader/default_loader.py, transformers_utils/config.py): files that nothing here hashed.
        "config_format": "hf",
        "load_format": "auto" if any(name.endswith(".bin") for name in model.weight_files) else "safetensors",
        "worker_extension_cls": RECEIVER if transfer == STREAM else extension.CLASS,
        "enable_prefix_caching": settings.prefix_caching,
        "logprobs_mode": "raw_logprobs",
        "enforce_eager": on_cpu,  # compiling took 76 s more at the start on 2 cores, and tokens came no faster
        "seed": 0,
    }
    if on_cpu:
        # A prompt that is read in two steps makes a token that is dropped, and vLLM then winds the request's generator back,
        # which a CPU's cannot do: RuntimeError (0.32, v1/worker/gpu_model_runner.py, _bookkeeping_sync).
        engine["enable_chunked_prefill"] = False
    if preflight.over_machines(settings):
        engine["distributed_executor_backend"] = "ray"  # vLLM does not choose it by itself (0.32, config/parallel.py)
    if settings.batch_size:
        engine["max_num_seqs"] = settings.batch_size
    stated = config.get("max_position_embeddings")
    if isinstance(stated, int) and stated < model.context:
        engine["hf_overrides"] = {"max_position_embeddings": model.context}
    if transfer:
        engine |= {"weight_transfer_config": {"backend": transfer}, "enable_sleep_mode": transfer == IPC}
    if settings.adapter:
        rank = preflight.adapter_rank(Path(settings.adapter))
        engine |= {"enable_lora": True, "max_lora_rank": next(room for room in LORA_RANKS if room >= rank)}
    return Spec(
        engine=engine,
        folder=model.path,
        name=model.name,
        trust_remote_code=settings.trust_remote_code,
        eos_ids=eos_ids,
        adapter=settings.adapter,
        cpus=split(devices.usable_cores(), settings.data_parallel)[number] if on_cpu and settings.data_parallel > 1 else (),
    )


def environment(model: ModelFiles, settings: EngineSettings, positions: int, number: int, transfer: str = "") -> dict[str, str]:
    """Returns the environment of an engine's process; its GPUs are set here, before anything there can look for them.

    The arguments are as for :func:`make_spec`.
    """
    variables = {**ENVIRONMENT, **os.environ}
    if transfer == IPC:  # the handles of the memory go from the engine's process to its core as pickles of our own
        variables["VLLM_ALLOW_INSECURE_SERIALIZATION"] = "1"
    ranks = settings.tensor_parallel * settings.pipeline_parallel
    if preflight.cpu_build():
        cores = split(devices.usable_cores(), ranks * settings.data_parallel)[number * ranks : (number + 1) * ranks]
        own = {"OMP_NUM_THREADS": str(len(cores[0])), "VLLM_CPU_KVCACHE_SPACE": str(cpu_cache_gib(model, settings, positions))}
        if ranks > 1:  # without this vLLM wants a NUMA node for each rank
            own["VLLM_CPU_OMP_THREADS_BIND"] = "|".join(",".join(map(str, group)) for group in cores)
        return {**CPU_ENVIRONMENT, **own, **variables}
    mine = devices.gpus()[number * ranks : (number + 1) * ranks]
    return variables | {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(gpu.index for gpu in mine)}


def cpu_cache_gib(model: ModelFiles, settings: EngineSettings, positions: int) -> int:
    """Returns whole GiB for one CPU engine's keys and values: a full batch, but at most half of its share of free memory."""
    config = read_json(model.path / "config.json")
    size = preflight.DTYPE_BYTES[preflight.resolved_dtype(model, settings)]
    wanted = preflight.cache_bytes(config, size) * positions * (settings.batch_size or CPU_ROWS)
    share = (devices.free_memory() // settings.data_parallel - model.weight_bytes) // 2
    return max(1, min(-(-wanted // preflight.GIB), share // preflight.GIB))


def split(cores: Sequence[int], parts: int) -> list[tuple[int, ...]]:
    """Returns the cores in as many consecutive groups of nearly equal size."""
    edges = [round(part * len(cores) / parts) for part in range(parts + 1)]
    return [tuple(cores[low:high]) for low, high in itertools.pairwise(edges)]
