"""Names of plug-ins are known without importing any."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tulu_eval import plugins
from tulu_eval.errors import UnknownName


def test_names_of_all_given_groups_are_candidates() -> None:
    plugins.check("benchmark", ["gsm8k", "tulu-2.5"], plugins.BENCHMARKS, plugins.SUITES)
    with pytest.raises(UnknownName, match=r"unknown benchmark 'tulu-25'. Did you mean 'tulu-2.5'"):
        plugins.check("benchmark", ["tulu-25"], plugins.BENCHMARKS, plugins.SUITES)


@pytest.mark.parametrize(
    "words",
    [
        "run nosuch -m x", "run gsm8k -m nosuch", "run gsm8k -m x --backend nosuch", "models --stage nosuch",
        "train ppo --recipe nosuch --dry-run", "reproduce --recipe nosuch", "plan nosuch -m a b -d 2",
    ],
)  # fmt: skip
def test_an_unknown_name_loads_nothing_heavy(words: str) -> None:
    code = (
        "import sys\nfrom tulu_eval.cli import cli\n"
        f"try: cli.main({words.split()!r})\nexcept SystemExit as end: code = end.code\n"
        "heavy = {'torch', 'transformers', 'scipy', 'numpy', 'pandas', 'tulu_eval.runs.runner'} & {*sys.modules}\n"
        "print(code, sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "2 []\n", done.stderr
    assert "nosuch" in done.stderr
