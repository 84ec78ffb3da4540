"""What an engine is built from, who computes what, and why it failed. Runs without vllm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulu_eval.backends.base import EngineSettings
from tulu_eval.backends.vllm import backend as backend
from tulu_eval.backends.vllm import devices as devices
from tulu_eval.backends.vllm import process as process
from tulu_eval.backends.vllm import settings as settings_of
from tulu_eval.errors import EngineError, PreflightError
from tulu_eval.models.base import ModelFiles
from tulu_eval.records import Decoding, Request

GIB = 2**30
H200 = "NVIDIA H200, 143771, 143000, 9.0"


@pytest.mark.parametrize(("length", "limit"), [(600, 512), (8193, 0)])
def test_a_request_longer_than_the_engine(model: ModelFiles, length: int, limit: int) -> None:
    with pytest.raises(
        PreflightError, match=f"--max-model-len 512 is less than .* {length}|{length} tokens, and tulu-8b has 8192"
    ):
        backend.VllmBackend.load(model, EngineSettings(max_model_len=limit), (2,), length)


def test_each_engine_sees_its_own_devices(model: ModelFiles, gpus: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(*[H200] * 6)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,4,3,2,1")
    settings = EngineSettings(tensor_parallel=2, data_parallel=2)
    seen = [settings_of.environment(model, settings, 1024, number)["CUDA_VISIBLE_DEVICES"] for number in range(2)]
    assert seen == ["5,4", "3,2"]


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
        "config_format": "hf",
        "load_format": "safetensors",
        "worker_extension_cls": "tulu_eval.backends.vllm.extension.Extension",
        "enable_prefix_caching": True,
        "logprobs_mode": "raw_logprobs",
        "enforce_eager": False,
        "seed": 0,
        "hf_overrides": {"max_position_embeddings": 8192},
        "enable_lora": True,
        "max_lora_rank": 32,
    }
    assert (spec.eos_ids, spec.cpus) == ((128001,), ())


@pytest.mark.parametrize("transfer", ["ipc", "tulu-eval-stream"])
def test_an_engine_that_gets_weights_from_a_trainer(transfer: str, model: ModelFiles, gpus: Any) -> None:
    """On a GPU it can sleep, and takes the handles of memory; a plain engine does neither."""
    gpus(H200)
    plain, made = (settings_of.make_spec(model, EngineSettings(), (2,), 1500, 0, how).engine for how in ("", transfer))
    assert {name: value for name, value in made.items() if plain.get(name) != value} == {
        "weight_transfer_config": {"backend": transfer},
        "enable_sleep_mode": transfer == "ipc",
    } | ({} if transfer == "ipc" else {"worker_extension_cls": "tulu_eval.backends.vllm.stream_receiver.ReceivingExtension"})
    name = "VLLM_ALLOW_INSECURE_SERIALIZATION"
    assert name not in settings_of.environment(model, EngineSettings(), 1500, 0)
    assert settings_of.environment(model, EngineSettings(), 1500, 0, transfer).get(name) == ("1" if transfer == "ipc" else None)


def test_a_sound_config_is_not_overridden(model: ModelFiles, gpus: Any, llama_8b: dict[str, Any]) -> None:
    gpus(H200)
    (model.path / "config.json").write_text(json.dumps(llama_8b | {"max_position_embeddings": 8192}))
    assert "hf_overrides" not in settings_of.make_spec(model, EngineSettings(), (2,), 1500, 0).engine


@pytest.mark.parametrize(("free", "batch", "gib"), [(100 * GIB, 0, 12), (100 * GIB, 8, 2), (24 * GIB, 0, 4), (16 * GIB, 0, 1)])
def test_cpu_cache_is_a_batch_or_half_of_what_is_left(
    free: int, batch: int, gib: int, model: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "free_memory", lambda: free)
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


def test_a_closed_engine_says_so(model: ModelFiles) -> None:
    engine = backend.VllmBackend([], {}, 100, model, EngineSettings())
    with pytest.raises(EngineError, match=r"^the vLLM engine is closed$"):
        next(engine.generate([Request("a", (1,), "")], Decoding(4)))
    engine.close()
