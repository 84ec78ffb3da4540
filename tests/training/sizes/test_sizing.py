"""The shapes of Llama 3 have as many parameters as transformers makes of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from tulu_eval.training import recipes
from tulu_eval.training.job import TrainingOrder
from tulu_eval.training.sizes import sizing


@pytest.mark.parametrize("size", sizing.LLAMA_3)
def test_parameters(size: str) -> None:
    config = LlamaConfig(**sizing.LLAMA_3[size], num_labels=1)
    for scorer, made in ((False, LlamaForCausalLM), (True, LlamaForSequenceClassification)):
        with torch.device("meta"):
            model = made(config)
        assert sizing.parameters(size, scorer=scorer) == sum(weight.numel() for weight in model.parameters())


def test_a_job_without_files(tmp_path: Path) -> None:
    model = sizing.model_files("8B", tmp_path, scorer=False)
    for stage, tokens in (("sft", 30), ("rm", 60)):
        job = sizing.job(TrainingOrder(stage, "easylm"), recipes.load(stage, "easylm"), model, None, rows=1030, tokens=30)
        assert job.tokens == 1030 * tokens
        assert job.steps == {"sft": 2 * 8, "rm": 2}[stage]
