"""A copy of pickled weights as safetensors: the same tensors, and never any code."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tulu_eval.errors import DataError
from tulu_eval.models import model_files, weights
from tulu_eval.models.pickled import as_safetensors


@pytest.fixture
def copy(llama3_like: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return shutil.copytree(llama3_like, tmp_path / "pickled")


@pytest.mark.parametrize("shards", [1, 2])
def test_the_same_tensors(copy: Path, tmp_path: Path, shards: int) -> None:
    state = load_file(copy / weights.SINGLE)
    assert as_safetensors(model_files.from_path(copy)).path == copy
    (copy / weights.SINGLE).unlink()
    names = sorted(state)
    if shards == 1:
        state["tied"] = state[names[0]]
        torch.save(state, copy / weights.PICKLE)
    else:
        files = [f"pytorch_model-0000{n}-of-00002.bin" for n in (1, 2)]
        for n, file in enumerate(files):
            torch.save({name: state[name] for name in names[n::2]}, copy / file)
        places = {name: files[n % 2] for n, name in enumerate(names)}
        (copy / weights.PICKLE_INDEX).write_text(json.dumps({"weight_map": places}))
    model = model_files.from_path(copy, allow_pickle=True)
    made = as_safetensors(model)
    assert made.weights_sha256 == model.weights_sha256
    assert made.safe
    found: dict[str, torch.Tensor] = {}
    for file in made.weight_files:
        found |= load_file(made.path / file)
    assert set(found) == set(state)
    assert all(torch.equal(found[name], state[name]) for name in state)
    AutoModelForCausalLM.from_pretrained(made.path)
    before = (made.path / "config.json").stat().st_mtime_ns
    assert as_safetensors(model).path == made.path
    assert (made.path / "config.json").stat().st_mtime_ns == before


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("code-has-run",)


@pytest.mark.parametrize("held", [{"a": Evil()}, {"a": 1}, b"junk"])
def test_what_is_no_pickle_of_tensors(copy: Path, held: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (copy / weights.SINGLE).unlink()
    if isinstance(held, bytes):
        (copy / weights.PICKLE).write_bytes(held)
    else:
        torch.save(held, copy / weights.PICKLE)
    with pytest.raises(DataError, match=r"pytorch_model.bin: is no pickle of "):
        as_safetensors(model_files.from_path(copy, allow_pickle=True))
    assert not Path("code-has-run").exists()
    assert not list((tmp_path / "cache" / "tulu-eval" / "pickled").glob(".*.tmp"))
