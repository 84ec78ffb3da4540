"""The command line as a user starts it, in this process or in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

Run = Callable[..., Result]
Start = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def invoke() -> Run:
    """Runs a command in this process."""
    from tulu_eval.cli import cli

    def call(*words: str) -> Result:
        return CliRunner().invoke(cli, [str(word) for word in words])

    return call


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Runs a command in a process of its own, with caches of its own and no way to the real hub."""

    def call(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        cache = {"HF_HOME": str(tmp_path / "hf"), "XDG_CACHE_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
        return subprocess.run(
            [sys.executable, "-m", "tulu_eval", *map(str, words)],
            capture_output=True,
            text=True,
            timeout=1200,
            check=False,
            env={**os.environ, **cache, **environment},
            cwd=tmp_path,
        )

    return call
