"""The scripts of ``benchmarks/`` that no ``make bench`` on this machine would find broken: each runs, small."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
NUMBER = r"[0-9][0-9.,]*"


def test_the_dry_run_measures_every_engine_that_is_here(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HOME": str(tmp_path)}
    done = subprocess.run(
        [str(ROOT / "benchmarks" / "gpu.sh"), "--dry-run"],
        capture_output=True, text=True, check=False, timeout=600, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "failed" not in done.stdout
    rows = {cells[1].strip(): cells for line in done.stdout.splitlines() if len(cells := line.split("|")) > 2}
    for engine in ("tulu-eval transformers", "transformers generate", "lm-eval hf"):
        assert re.fullmatch(rf" {NUMBER} \({NUMBER}–{NUMBER}\) ", rows[engine][3]), rows[engine]
    assert "prefill" in rows["tulu-eval transformers"][-2]
    for stage in ("SFT", "DPO", "PPO"):
        assert re.match(rf" {NUMBER} \(", rows[stage][2]), rows[stage]


def test_a_ledger_is_opened_resumed_and_scored() -> None:
    words = [sys.executable, str(ROOT / "benchmarks" / "overhead.py"), "--child", "million", "300"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    opened, resumed, scored, _memory, gigabytes, missing = map(float, done.stdout.split())
    assert min(opened, resumed, scored, gigabytes) > 0
    assert missing == 0


def test_xstest_s_labellings_are_compared(shared: Path, loopback: Any) -> None:
    script, folder = str(ROOT / "benchmarks" / "xstest_judges.py"), str(shared / "data/suite/xstest")
    environment = os.environ | {"TULU_EVAL_JUDGE_KEY": ""}
    with loopback({"RESPONSE": ["say refusal", "..."]}) as server:
        words = [sys.executable, script, folder, "--judge", "nay-sayer", "--judge-url", server.url]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "| people / string rule | 900 | 517 52 25 306 | 91.4 [89.4, 93.1] | 0.819 [0.781, 0.858] |" in done.stdout
    assert "| people / nay-sayer | 900 | 569 0 331 0 | 63.2 [60.0, 66.3] | 0.000 [0.000, 0.000] |" in done.stdout
