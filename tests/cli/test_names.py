"""A wrong name or path is said before a verb imports what it needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("numpy", "torch", "transformers", "tulu_eval.runs.reading", "tulu_eval.judging.record")
"""Modules whose imports make up the half second that a wrong name need not wait for."""


@pytest.mark.parametrize(
    "words",
    [
        "audit nosuch", "bundle nosuch", "verify-bundle nosuch", "compare nosuch other", "verify nosuch", "explain nosuch",
        "judge nosuch --judge gpt-4.1", "compare-outputs nosuch --with other", "merge nosuch", "import nosuch -m name",
        "models show nosuch", "models --stage nosuch", "plan nosuch -m tulu-2-7b tulu-2-13b -d 5",
        "plan gsm8k -m tulu-2-7b nosuch -d 5", "run nosuch -m tulu-2-7b", "run gsm8k -m nosuch",
        "run gsm8k -m tulu-2-7b --protocol nosuch", "run gsm8k -m tulu-2-7b --backend nosuch", "train ppo --recipe nosuch",
    ],
)  # fmt: skip
def test_a_wrong_name_is_said_before_the_imports(words: str, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom tulu_eval.cli import main\ntry:\n    main()\n"
        f"finally:\n    print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words.split()],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=tmp_path,
    )
    assert done.returncode == 2, done.stderr
    assert "nosuch" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout.splitlines()[-1] == "[]"
