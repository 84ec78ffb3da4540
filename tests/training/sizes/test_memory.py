"""What a training step is said to need are the bytes of its live tensors; ``benchmarks/memory.py`` has the whole table."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig

from tulu_eval.models.base import ModelFiles
from tulu_eval.training import parallel
from tulu_eval.training.at_once import HEAD_ROWS
from tulu_eval.training.sizes import memory

BENCHMARK = Path(__file__).resolve().parents[3] / "benchmarks" / "memory.py"


@pytest.fixture(scope="module")
def benchmark() -> Any:
    spec = importlib.util.spec_from_file_location("memory_benchmark", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_step_takes_the_bytes_of_the_model(benchmark: Any, live_bytes: Any, tmp_path: Path, checkpointing: bool) -> None:
    config = LlamaConfig(
        vocab_size=1920, hidden_size=64, intermediate_size=172, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=False, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    with parallel.ranks("cpu") as ranks:
        measured = live_bytes.training_peak(tmp_path, config, "bfloat16", checkpointing, ranks)
    one = memory.Pass(2, live_bytes.TOKENS, HEAD_ROWS, checkpointing, world=1, accumulated=True, flash=False)
    says = benchmark.says(benchmark.shape_of(config), one)
    for part, says_part in zip(benchmark.PARTS, says, strict=True):
        assert says_part == pytest.approx(measured.parts[part], rel=0.1), part
    assert sum(says) == pytest.approx(sum(measured.parts.values()), rel=0.1)


def test_sizes_of_a_shape(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        '{"vocab_size": 100, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}'
    )
    layer, embedding = 4 * 8 * 8 + 3 * 8 * 16 + 2 * 8, 800
    for outside in (1, 2):
        files = ModelFiles("m", tmp_path, "", "", "", "", outside * embedding + 2 * layer + 8, "float32", 8, 0)
        shape = memory.Shape.of(files, scorer=False)
        assert (shape.tied, shape.head) == ((True, 0), (False, embedding))[outside - 1]
        assert shape.layer == layer + 4  # the last norm is shared out
        assert memory.Shape.of(files, scorer=True).parameters == embedding + 2 * layer + 8
