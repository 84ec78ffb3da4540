"""A config is read with types and limits, and held against the weights before a model of its sizes is made."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tulu_eval.backends.base import EngineSettings
from tulu_eval.backends.hf.backend import TransformersBackend
from tulu_eval.errors import DataError, PreflightError
from tulu_eval.models import config as configs
from tulu_eval.models import model_files


@pytest.fixture
def copy(llama3_like: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(llama3_like, tmp_path / "tiny"))


def change(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_hidden_layers": 10**9}, "says 1,000,000,000 layers, and the weights have 2"),
        ({"num_hidden_layers": 1}, "says 1 layers, and the weights have 2"),
        ({"num_hidden_layers": 3}, "says 3 layers, and the weights have 2"),
        ({"num_hidden_layers": 10**30}, "num_hidden_layers is 1000"),
        ({"num_hidden_layers": "two"}, "num_hidden_layers is 'two', not a whole number"),
        ({"vocab_size": 10**8}, "says a vocabulary of 100,000,000, and no tensor"),
        ({"vocab_size": True}, "vocab_size is True, not a whole number"),
        ({"hidden_size": 10**6}, "says a width of 1,000,000, and no tensor"),
        ({"hidden_size": -32}, "hidden_size is -32, not a whole number"),
        ({"max_position_embeddings": [2048]}, r"max_position_embeddings is \[2048\], not a whole number"),
        ({"max_position_embeddings": 2048.5}, "max_position_embeddings is 2048.5, not a whole number"),
        ({"transformers_weights": "other.safetensors"}, "names weight files of its own"),
    ],
)
def test_a_config_of_another_model(copy: Path, fields: dict[str, Any], message: str) -> None:
    change(copy, **fields)
    began = time.monotonic()
    with pytest.raises(DataError, match=message):
        model_files.from_path(copy)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "fields",
    [
        {"intermediate_size": 10**12},
        {"intermediate_size": -1},
        {"intermediate_size": "x"},
        {"num_attention_heads": 7},
        {"num_attention_heads": 0},
        {"num_key_value_heads": 4},
        {"head_dim": 10**9},
        {"hidden_act": "no such"},
        {"rope_parameters": 5},
        {"model_type": "no-such-type"},
        {"model_type": {}},
        {"architectures": ["BertModel"], "model_type": "bert"},
    ],
)
def test_what_only_loading_shows_ends_in_one_line(copy: Path, fields: dict[str, Any]) -> None:
    change(copy, **fields)
    began = time.monotonic()
    with pytest.raises(PreflightError, match="cannot be loaded") as caught:
        TransformersBackend.load(model_files.from_path(copy), EngineSettings(device="cpu"), (1,), 64)
    assert time.monotonic() - began < 20
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"architectures": 5}, {"architectures": []}, {"architectures": [None]}, {"dtype": {}}, {"text_config": []},
        {"auto_map": None}, {"quantization_config": 3}, {"num_nextn_predict_layers": 1}, {"torch_dtype": "float1"},
    ],
)  # fmt: skip
def test_odd_fields_do_not_matter_here(copy: Path, fields: dict[str, Any]) -> None:
    before = model_files.from_path(copy)
    change(copy, **fields)
    assert model_files.from_path(copy).weights_sha256 == before.weights_sha256


def test_layers_that_guess_ahead_are_not_counted() -> None:
    assert configs.Config("a", "b", "", 0, 0, 0, 0, 0, 0, 2, 0, 1, False, False).extra_layers == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "is not JSON"),
        (b'{"hidden_size": 1, "hidden_size": 2}', "has 'hidden_size' twice in one object"),
        (b"[]", "is not a JSON object"),
        (b'{"a": ' + b"[" * 200_000, "is nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "has an integer of more than 4,300 digits"),
        (b"\xff\xfe", "is UTF-16: save it as UTF-8"),
        (
            b'{"a": "' + b"x" * configs.MAX_CONFIG + b'"}',
            "has more than 16,000,000 bytes, the limit for such a file",
        ),
    ],
)
def test_files_that_are_no_config(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "config.json").write_bytes(text)
    with pytest.raises(DataError, match=message):
        configs.read(tmp_path)


def test_a_config_that_is_no_file(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.mkdir()
    with pytest.raises(DataError, match="is a folder, not a file"):
        configs.read(tmp_path)
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(DataError, match="is a pipe, not a file"):
        configs.read(tmp_path)
    path.unlink()
    path.symlink_to("nowhere")
    with pytest.raises(DataError, match="is a broken link"):
        configs.read(tmp_path)
