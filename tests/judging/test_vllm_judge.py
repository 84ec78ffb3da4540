"""A judge in this process: the form of its answers, and questions that it rejects.

A real engine is in ``tests/cli/test_judge_vllm.py``.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from tulu_eval.judging.budget import JudgeUsage
from tulu_eval.judging.judge_answer import read_verdict
from tulu_eval.judging.vllm_judge import VllmJudge, _answer


def test_an_engines_output_reads_like_an_endpoints(recipe, pairs):
    position = {5: SimpleNamespace(logprob=-2.0, decoded_token="M"), 9: SimpleNamespace(logprob=-0.2, decoded_token=" m")}
    made = SimpleNamespace(finish_reason="length", text=" m", token_ids=[9], logprobs=[position])
    answer = _answer(recipe.question(pairs(1)[0]), SimpleNamespace(prompt_token_ids=[1, 2, 3], outputs=[made]))
    assert answer.usage == JudgeUsage(3, 1)
    top = answer.choice["logprobs"]["content"][0]["top_logprobs"]
    assert top == [{"token": " m", "logprob": -0.2}, {"token": "M", "logprob": -2.0}]
    assert read_verdict(answer.choice, "logprobs", False, loose=True).kind == "judged"


def test_a_drawn_token_beyond_the_five_likeliest_does_not_count(recipe, pairs):
    position = {at: SimpleNamespace(logprob=-float(at), decoded_token=f"t{at}") for at in range(5)}
    position[99] = SimpleNamespace(logprob=-9.0, decoded_token="m")
    made = SimpleNamespace(finish_reason="length", text="m", token_ids=[99], logprobs=[position])
    answer = _answer(recipe.question(pairs(1)[0]), SimpleNamespace(prompt_token_ids=[1], outputs=[made]))
    assert read_verdict(answer.choice, "logprobs", False, loose=True).kind == "no_verdict"


@pytest.mark.parametrize(
    ("words", "cannot", "why"),
    [
        (9, "", ""),
        (10, "", "11 tokens with its answer, and the judge has 10 positions"),
        (1, "the chat template of judge does not write the system's text", ""),
    ],
)
def test_what_the_model_cannot_be_asked_is_said(recipe, pairs, words, cannot, why):
    asked = []

    def generate(prompts, sampling, use_tqdm):
        asked.extend(prompts)
        made = SimpleNamespace(finish_reason="stop", text="m", token_ids=[9], logprobs=None)
        return [SimpleNamespace(prompt_token_ids=[1], outputs=[made]) for _ in prompts]

    sizes = SimpleNamespace(vllm_config=SimpleNamespace(model_config=SimpleNamespace(max_model_len=10)))
    engine = SimpleNamespace(llm_engine=sizes, generate=generate)
    judge = VllmJudge(engine, lambda questions: [([0] * words, cannot) for _ in questions])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "vllm", SimpleNamespace(SamplingParams=lambda **fields: fields))
        (answer,) = judge._answers([recipe.question(pairs(1)[0])])
    assert answer.detail == (cannot or why)
    assert bool(asked) == (not cannot and not why)
