"""Reward models with another head than one number per token end in one line, before any weight is loaded."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tulu_eval.errors import PreflightError
from tulu_eval.models import model_files
from tulu_eval.training import heads


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({}, "is not a reward model: score.weight is missing; train one with 'tulu-eval train rm'"),
        ({"score.weight": (2, 64)}, "gives 2 numbers, one per label, and a reward is one"),
        ({"score.weight": (1, 64), "score.bias": (1,)}, "has a score.bias, which the models of training do not have"),
        (
            {"v_head.summary.weight": (1, 64)},
            "has the head v_head.summary.weight, and a reward model here has score.weight alone",
        ),
        ({"score.weight": (1, 64)}, ""),
    ],
)
def test_heads(llama3_like: Path, tmp_path: Path, more: dict[str, tuple[int, ...]], message: str) -> None:
    folder = shutil.copytree(llama3_like, tmp_path / "rm")
    path = folder / "model.safetensors"
    save_file({**load_file(path), **{name: torch.zeros(shape) for name, shape in more.items()}}, path, {"format": "pt"})
    model = model_files.from_path(folder)
    if not message:
        heads.refuse_other(model)
        return
    with pytest.raises(PreflightError) as caught:
        heads.refuse_other(model)
    assert message in str(caught.value)
