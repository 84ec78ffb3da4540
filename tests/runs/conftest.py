"""Orders that run in a second: a tiny random model in float32 on twelve made-up rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tulu_eval.backends.base import EngineSettings
from tulu_eval.runs.run_plan import Order


@pytest.fixture
def order(llama3_like: Path, rows: Path, tmp_path: Path) -> Order:
    settings = EngineSettings(dtype="float32", device="cpu", batch_size=4)
    return Order("gsm8k", str(llama3_like), protocol="custom", data=rows, settings=settings, output=tmp_path / "results")
