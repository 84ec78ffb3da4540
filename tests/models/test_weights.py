"""Which files are a model's weights: what transformers loads is counted and hashed, and nothing beside it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from tulu_eval.backends.vllm import preflight
from tulu_eval.errors import DataError, PreflightError, UserError
from tulu_eval.models import model_files, weights

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


@pytest.fixture
def copy(llama3_like: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(llama3_like, tmp_path / "tiny"))


@pytest.fixture
def sharded(copy: Path) -> Path:
    """The same model in two shards with an index."""
    single = copy / weights.SINGLE
    tensors = load_file(single)
    names = sorted(tensors)
    places = {name: SHARDS[place % 2] for place, name in enumerate(names)}
    for shard in SHARDS:
        save_file({name: tensors[name] for name in names if places[name] == shard}, copy / shard, metadata={"format": "pt"})
    (copy / weights.INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    single.unlink()
    return copy


def noise(copy: Path, file: str) -> None:
    """Writes other weights of the same shapes, which would change every answer if they were loaded."""
    folder = copy.parent / "noise"
    if not folder.exists():
        model = AutoModelForCausalLM.from_pretrained(copy)
        for parameter in model.parameters():
            parameter.data.normal_()
        model.save_pretrained(folder)
    (copy / file).parent.mkdir(exist_ok=True)
    shutil.copy(folder / "model.safetensors", copy / file)


BESIDE = (
    "consolidated.safetensors", "model.fp16.safetensors", "adapter_model.safetensors", "original/model.safetensors",
    ".model.safetensors", "pytorch_model.bin", "tf_model.h5", "flax_model.msgpack",
)  # fmt: skip


@pytest.mark.parametrize("file", BESIDE)
@pytest.mark.parametrize("shards", [True, False])
def test_what_lies_beside_the_weights_is_neither_counted_nor_hashed_nor_loaded(
    request: pytest.FixtureRequest, shards: bool, file: str
) -> None:
    folder: Path = request.getfixturevalue("sharded" if shards else "copy")
    before, loaded = model_files.from_path(folder), AutoModelForCausalLM.from_pretrained(folder)
    noise(folder, file)
    after, again = model_files.from_path(folder), AutoModelForCausalLM.from_pretrained(folder)
    assert before == after
    assert after.weight_files == (SHARDS if shards else (weights.SINGLE,))
    assert after.parameters == loaded.num_parameters()
    assert after.weight_bytes == sum((folder / name).stat().st_size for name in after.weight_files)
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), again.parameters(), strict=True))


def test_shards_are_hashed_by_name_as_always(sharded: Path) -> None:
    lines = "".join(f"{name}:{hashlib.sha256((sharded / name).read_bytes()).hexdigest()}\n" for name in SHARDS)
    assert model_files.from_path(sharded).weights_sha256 == hashlib.sha256(lines.encode()).hexdigest()


def test_one_whole_file_comes_before_an_index(sharded: Path) -> None:
    noise(sharded, weights.SINGLE)
    model = model_files.from_path(sharded)
    assert model.weight_files == (weights.SINGLE,)
    loaded = AutoModelForCausalLM.from_pretrained(sharded).state_dict()
    assert torch.equal(loaded["model.norm.weight"], load_file(sharded / weights.SINGLE)["model.norm.weight"])


@pytest.mark.parametrize(
    ("file", "shards", "refused"),
    [
        ("consolidated.safetensors", True, False),  # not in the index
        ("consolidated.safetensors", False, True),  # without an index vLLM reads every safetensors file
        ("model.fp16.safetensors", False, True),
        ("adapter_model.safetensors", False, True),
        (".model.safetensors", False, False),
        ("original/model.safetensors", False, False),
        (weights.SINGLE, True, True),  # vLLM goes by the index, transformers by the whole file
    ],
)
def test_vllm_loads_what_was_hashed_or_is_refused(
    request: pytest.FixtureRequest, file: str, shards: bool, refused: bool
) -> None:
    folder: Path = request.getfixturevalue("sharded" if shards else "copy")
    noise(folder, file)
    model = model_files.from_path(folder)
    if refused:
        with pytest.raises(PreflightError, match="has weights that vLLM and transformers read differently"):
            preflight._check_files(model)
    else:
        preflight._check_files(model)


def header(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Rewrites a file's header and leaves its data as it is."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    head = json.loads(data[8 : 8 + length])
    change(head)
    written = json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(written)) + written + data[8 + length :])


def put(key: str, value: Any) -> Callable[[dict[str, Any]], object]:
    return lambda head: head["model.norm.weight"].__setitem__(key, value)


@pytest.mark.parametrize(
    "change",
    [
        put("shape", [10**9, 10**9]),
        put("shape", [2**60, 2**60]),
        put("shape", [-32]),
        put("shape", [31]),
        put("shape", "all"),
        put("dtype", "F64"),
        put("dtype", "ZZ"),
        put("data_offsets", [0, 4]),
        put("data_offsets", [0, 2**63]),
        lambda head: head.pop("model.norm.weight"),
        lambda head: head.update(extra={"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}),
        lambda head: head.update(extra=5),
    ],
)
def test_headers_that_lie(copy: Path, change: Callable[[dict[str, Any]], object]) -> None:
    header(copy / weights.SINGLE, change)
    with pytest.raises(DataError, match="corrupt safetensors file"):
        model_files.from_path(copy)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({}, "has no weight_map"),
        ({"weight_map": {}}, "has no weight_map"),
        ({"weight_map": {"a": 5}}, "has no weight_map"),
        ({"weight_map": ["a"]}, "has no weight_map"),
        ([], "is not a JSON object"),
        ({"weight_map": {"a": "../../x.safetensors"}}, "which is not the name of a file beside it"),
        ({"weight_map": {"a": "/etc/passwd"}}, "which is not the name of a file beside it"),
        ({"weight_map": {"a": "sub/x.safetensors"}}, "which is not the name of a file beside it"),
        ({"weight_map": {"a": "*"}}, "which is not the name of a file beside it"),
        ({"weight_map": {"a": "\ud800"}}, "has the lone surrogate"),
        ({"weight_map": {"a": "absent.safetensors"}}, "1 of 1 weight files are missing"),
        ({"weight_map": {"no.such.tensor": SHARDS[0], "model.norm.weight": SHARDS[1]}}, "in a file that does not have it"),
    ],
)
def test_indices_that_lie(sharded: Path, index: Any, message: str) -> None:
    (sharded / weights.INDEX).write_text(json.dumps(index))
    with pytest.raises(UserError, match=message):
        model_files.from_path(sharded)


def test_a_tensor_in_two_shards(sharded: Path) -> None:
    tensors = load_file(sharded / SHARDS[0]) | {"model.norm.weight": torch.zeros(32)}
    other = load_file(sharded / SHARDS[1]) | {"model.norm.weight": torch.ones(32)}
    save_file(tensors, sharded / SHARDS[0])
    save_file(other, sharded / SHARDS[1])
    with pytest.raises(
        DataError, match=r"has the tensor 'model.norm.weight', which is in model-00001-of-00002.safetensors too"
    ):
        model_files.from_path(sharded)


def test_files_that_are_none(copy: Path) -> None:
    (copy / weights.SINGLE).unlink()
    with pytest.raises(PreflightError, match=r"tiny has no weights: neither model\.safetensors nor"):
        model_files.from_path(copy)
    noise_file = copy / "consolidated.safetensors"
    noise_file.write_bytes(b"")
    with pytest.raises(PreflightError, match=r"consolidated\.safetensors is not loaded without an index that names it"):
        model_files.from_path(copy)
    (copy / weights.SINGLE).symlink_to("nowhere")
    with pytest.raises(DataError, match="is not a regular file"):
        model_files.from_path(copy)
    (copy / weights.SINGLE).unlink()
    os.mkfifo(copy / weights.SINGLE)
    with pytest.raises(DataError, match="is not a regular file"):
        model_files.from_path(copy)


def test_pickles_in_the_order_of_transformers(copy: Path) -> None:
    state = AutoModelForCausalLM.from_pretrained(copy).state_dict()
    (copy / weights.SINGLE).unlink()
    torch.save(state, copy / "pytorch_model-00001-of-00001.bin")
    index = {"weight_map": dict.fromkeys(state, "pytorch_model-00001-of-00001.bin")}
    (copy / weights.PICKLE_INDEX).write_text(json.dumps(index))
    assert model_files.from_path(copy, allow_pickle=True).weight_files == ("pytorch_model-00001-of-00001.bin",)
    torch.save(state, copy / weights.PICKLE)
    assert model_files.from_path(copy, allow_pickle=True).weight_files == (weights.PICKLE,)
