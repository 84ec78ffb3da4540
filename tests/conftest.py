"""Fixtures that every room uses: the shared real data and the real small model."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real data; skips where it is absent, which in CI is a failure."""
    folder = Path(os.environ.get("TULU_EVAL_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        if os.environ.get("TULU_EVAL_REQUIRE_SHARED") == "1":
            pytest.fail(f"{folder} is required here and absent")
        pytest.skip(f"no shared data at {folder}; set TULU_EVAL_SHARED")
    return folder
