"""A judge in this process: the form of its answers, and what it cannot be asked.

A real engine is in ``tests/cli/test_judge_vllm_cli.py``.
"""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest
from jinja2 import TemplateError

from tulu_eval.judging.budget import Usage
from tulu_eval.judging.recipe import Message
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


def test_a_drawn_token_beyond_the_five_likeliest_does_not_count(recipe, pairs):
    position = {at: SimpleNamespace(logprob=-float(at), decoded_token=f"t{at}") for at in range(5)}
    position[99] = SimpleNamespace(logprob=-9.0, decoded_token="m")
    made = SimpleNamespace(finish_reason="length", text="m", token_ids=[99], logprobs=[position])
    answer = _answer(recipe.question(pairs(1)[0]), SimpleNamespace(prompt_token_ids=[1], outputs=[made]))
    assert read_verdict(answer.choice, "logprobs", False, loose=True).kind == "no_verdict"


class Tokenizer:
    """Words are tokens; it has no system turn."""

    def apply_chat_template(self, turns, **settings):
        if [turn["role"] for turn in turns] != ["user"]:
            raise TemplateError("Only user and assistant roles are supported!")
        return turns[0]["content"].split()


@pytest.mark.parametrize(
    ("roles", "words", "why"),
    [
        (("user",), 9, ""),
        (("user",), 10, "11 tokens with its answer, and the judge has 10 positions"),
        (("system", "user"), 1, "its chat template does not take the prompt: Only user and assistant roles are supported!"),
    ],
)
def test_what_the_model_cannot_be_asked_is_said(recipe, pairs, roles, words, why):
    sizes = SimpleNamespace(vllm_config=SimpleNamespace(model_config=SimpleNamespace(max_model_len=10)))
    judge = VllmJudge(SimpleNamespace(get_tokenizer=Tokenizer, llm_engine=sizes))
    asked = dataclasses.replace(recipe.question(pairs(1)[0]), messages=tuple(Message(role, "word " * words) for role in roles))
    assert judge._tokens(asked)[1] == why
