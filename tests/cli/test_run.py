"""``tulu-eval run`` as a user types it: real processes, a tiny model, a local hub cache."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import Result

Run = Callable[..., Result]
Start = Callable[..., subprocess.CompletedProcess[str]]
TARGET = "allenai/llama-3-tulu-v2.5-8b-uf-mean-70b-uf-rm"
COMMIT = "4d3fa46000000000000000000000000000000000"


@pytest.fixture
def command(llama3_like: Path, rows: Path) -> tuple[str, ...]:
    return ("run", "gsm8k", "-m", str(llama3_like), "--protocol", "custom", "--data", str(rows), "--device", "cpu")


def test_table_on_stdout_progress_on_stderr(start: Start, command: tuple[str, ...]) -> None:
    done = start(*command, "--limit", "3")
    assert done.returncode == 0, done.stderr
    assert "| custom" not in done.stderr
    assert "last-number" in done.stdout
    assert "stated-answer" in done.stdout
    assert "gsm8k:custom|n:3@" in done.stdout
    assert "/llama3-like0 on transformers ..." in done.stderr
    assert "3/3 items" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_cards_two_benchmarks_on_one_engine_start(start: Start, llama3_like: Path, shared: Path, tmp_path: Path) -> None:
    files = {"gsm8k": "gsm8k/test.jsonl", "alpaca-eval": "alpaca_eval/alpaca_eval_set.json"}
    data = [word for name, file in files.items() for word in ("--data", f"{name}={shared / 'data' / file}")]
    done = start("run", "gsm8k", "alpaca-eval", "-m", llama3_like, "--limit", "1", "--device", "cpu", *data, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("/llama3-like0 on transformers ...") == 1
    found = json.loads(done.stdout)
    assert [{row["benchmark"] for row in one["results"]} for one in found] == [{"gsm8k"}, {"alpaca-eval"}]
    for one in found:
        manifest = json.loads((tmp_path / one["folder"] / "manifest.json").read_text())
        assert manifest["template"]["form"] == "tulu"
    outputs = json.loads((tmp_path / found[1]["folder"] / "model_outputs.json").read_text())
    assert [set(row) for row in outputs] == [{"instruction", "output", "generator"}]


def test_json_pipes_and_quiet_is_quiet(start: Start, command: tuple[str, ...], tmp_path: Path) -> None:
    done = start(*command, "--limit", "2", "--json", "-q", "-o", "out")
    assert done.stderr == ""
    (data,) = json.loads(done.stdout)
    assert [row["n"] for row in data["results"]] == [2, 2]
    assert (tmp_path / data["folder"] / "manifest.json").exists()


def test_dry_run_writes_nothing(invoke: Run, command: tuple[str, ...], tmp_path: Path) -> None:
    done = invoke(*command, "--dry-run", "-o", str(tmp_path / "out"))
    assert done.exit_code == 0, done.output
    assert "custom: 12 items, at most 512 new tokens each" in done.stdout
    assert not (tmp_path / "out").exists()


def test_ctrl_c_says_how_to_go_on_and_the_same_command_does(command: tuple[str, ...], tmp_path: Path, programs: Any) -> None:
    words = [sys.executable, "-m", "tulu_eval", *command, "-o", str(tmp_path / "out"), "--batch-size", "1", "--limit", "6"]
    child = programs.start(*words)
    ledger: list[Path] = []
    while child.poll() is None and not (ledger and ledger[0].stat().st_size):
        time.sleep(0.02)
        ledger = list(tmp_path.glob("out/*/*/*/samples.jsonl"))
    child.send_signal(signal.SIGINT)
    _, stderr = child.communicate()
    assert child.returncode == 130, stderr
    assert "the same command goes on from there" in stderr.strip().splitlines()[-1]
    assert "Traceback" not in stderr
    again = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert again.returncode == 0
    assert "of 6 samples are in the ledger already" in again.stderr
    assert "6    12" in again.stdout


def hub_cache(root: Path, model: Path, data: Path | None) -> None:
    """Lays a model and the GSM8K test set into a hub cache as the hub's own client does."""
    folder = root / "hub" / f"models--{TARGET.replace('/', '--')}"
    shutil.copytree(model, folder / "snapshots" / COMMIT)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    if data is not None:
        folder = root / "hub" / "datasets--openai--gsm8k"
        parquet = folder / "snapshots" / COMMIT / "main" / "test-00000-of-00001.parquet"
        parquet.parent.mkdir(parents=True)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text(COMMIT)
        pd.DataFrame([json.loads(line) for line in data.read_text().splitlines()]).to_parquet(parquet)


def test_the_command_the_project_exists_for(start: Start, llama3_like: Path, shared: Path, tmp_path: Path) -> None:
    """Model and data set by their hub ids, from a local cache; the 200 published items, in full."""
    hub_cache(tmp_path / "hf", llama3_like, shared / "data/gsm8k/test.jsonl")
    done = start("run", "gsm8k", "--model", TARGET, "--json")
    assert done.returncode == 0, done.stderr
    (data,) = json.loads(done.stdout)
    assert [(row["protocol"], row["scorer"], row["n"]) for row in data["results"]] == [
        ("card-200", "last-number", 200),
        ("card-200", "stated-answer", 200),
    ]
    manifest = json.loads((tmp_path / data["folder"] / "manifest.json").read_text())
    assert manifest["model"]["name"] == TARGET
    assert manifest["model"]["revision"] == COMMIT
    assert manifest["template"]["form"] == "tulu"
    assert manifest["eos_ids"] == [1]


@pytest.mark.parametrize("offline", ["1", ""])
def test_without_hub_and_cache_one_line_says_what_is_missing(start: Start, offline: str) -> None:
    began = time.monotonic()
    done = start("run", "gsm8k", "--model", TARGET, HF_HUB_OFFLINE=offline, HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 2
    assert done.stderr == (
        f"tulu-eval: the hub is unreachable and {TARGET} is not in the local cache; with a network, run 'hf download {TARGET}' "
        "first, or give a local folder\n"
    )
    assert time.monotonic() - began < 20, "the hub's own client would retry for 23 s"


def test_data_set_missing(start: Start, llama3_like: Path, tmp_path: Path) -> None:
    hub_cache(tmp_path / "hf", llama3_like, None)
    done = start("run", "gsm8k", "--model", TARGET)
    assert done.returncode == 2
    assert "the data set openai/gsm8k is not in the local cache; give the file with --data test.jsonl" in done.stderr


def test_shell_completion(start: Start) -> None:
    done = start(_TULU_EVAL_COMPLETE="bash_complete", COMP_WORDS="tulu-eval run gs", COMP_CWORD="2")
    assert {"plain,gsm8k", "plain,gsm-symbolic"} <= set(done.stdout.split())


def test_a_reader_that_leaves_is_no_error(command: tuple[str, ...]) -> None:
    line = " ".join([sys.executable, "-m", "tulu_eval", "models", "|", "head", "-1"])
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, check=False, env=dict(os.environ))
    assert "Traceback" not in done.stderr
    assert "Broken" not in done.stderr
