"""A policy's weights leave the trainer under the names of a checkpoint, one at a time. Runs without vllm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM

from tulu_eval.backends.vllm import weight_stream
from tulu_eval.errors import EngineError
from tulu_eval.training.networks import Policy
from tulu_eval.training.weight_sync import PolicyWeights, StreamTransport

SHAPE: dict[str, Any] = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2,
}  # fmt: skip


def model(kind: str) -> Any:
    torch.manual_seed(0)
    if kind == "experts":
        return MixtralForCausalLM(MixtralConfig(**SHAPE, num_local_experts=4))
    return LlamaForCausalLM(LlamaConfig(**SHAPE, tie_word_embeddings=kind == "tied"))


@pytest.mark.parametrize("kind", ["plain", "tied", "experts"])
def test_the_tensors_are_those_of_a_saved_model(kind: str, tmp_path: Path) -> None:
    policy = Policy(model(kind), torch.float32)
    weights = PolicyWeights(policy, torch.bfloat16)
    got = {name: tensor.clone() for name, tensor in weights}
    policy.model.to(torch.bfloat16).save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert set(got) == set(stored)
    assert all(torch.equal(got[name], tensor) for name, tensor in stored.items())
    assert [tuple(one) for one in weights.metadata()] == [(name, t.dtype, tuple(t.shape)) for name, t in got.items()]
    assert weights.bytes == sum(tensor.nbytes for tensor in stored.values())


def test_the_sums_tell_weights_apart() -> None:
    policy = Policy(model("plain"), torch.float32)

    def sums(dtype: torch.dtype) -> tuple[int, ...]:
        weights = PolicyWeights(policy, dtype)
        for _ in weights:
            pass
        return weights.sums

    before = sums(torch.float32)
    assert before == sums(torch.float32)
    with torch.no_grad():
        weight = policy.model.lm_head.weight
        weight[3, 4] = torch.nextafter(weight[3, 4], torch.tensor(9.0))
    assert [a == b for a, b in zip(before, sums(torch.float32), strict=True)].count(False) == 1


class Engine:
    """Takes the part of an engine that fails at the ``bad``-th tensor."""

    def __init__(self, bad: int) -> None:
        self.bad, self.calls, self.connection = bad, list[str](), None

    def ask(self, message: Any, during: Any = lambda: None, seconds: float | None = None) -> list[Any]:
        assert seconds == weight_stream.TRANSFER_SECONDS
        self.calls.append(message.method)
        if message.method == "init_weight_transfer_engine":
            self.connection = weight_stream.connect(message.arguments["init_info"]["address"])  # type: ignore[assignment]
        if message.method == "update_weights":
            assert message.arguments["update_info"]["dtype_names"][self.bad] == "float32"
            self.connection.close()  # type: ignore[attr-defined]
            during()
            raise EngineError("it does not fit")
        return []


def test_a_failed_engine_stops_no_gathering_and_has_the_last_word() -> None:
    policy, engine = Policy(model("plain"), torch.float32), Engine(2)
    transport = StreamTransport(engine)  # type: ignore[arg-type]
    weights = PolicyWeights(policy, torch.float32)
    with pytest.raises(EngineError, match="it does not fit"):
        transport.send(weights)
    assert len(weights.sums) == len(list(policy.parameters())), "another rank would wait for this one"
    assert engine.calls == ["init_weight_transfer_engine", "start_weight_update", "update_weights"]
    transport.close()
