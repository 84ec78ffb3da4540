"""An answer is one to what was asked, as far as its form tells."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

from tulu_eval.backends.cluster.checking import AnswerLimits, Checker, check_keys
from tulu_eval.backends.cluster.node_messages import Answer, AnswerBatch, GarbageError
from tulu_eval.backends.growing import Finisher, GrowingRow
from tulu_eval.backends.hf.backend import TransformersBackend
from tulu_eval.logprobs import AnyRequest, Choice, ChoiceRequest, Continuation, ScoreRequest, Scores
from tulu_eval.models.model_files import inspect
from tulu_eval.records import Completion, Decoding, Likelihood, Request
from tulu_eval.testing import ScriptedBackend

CHECKER = Checker(AnswerLimits(100, (2,), None, 64), Decoding(4, stop=("END",)))
TEXT = Request("k", (1,), "x")
CHOICE = ChoiceRequest("k", (1,), "x", (5, 6))
SCORE = ScoreRequest("k", (1,), "x", (Continuation((5, 6), "ab"),))
COMPLETION, CHOSEN = Completion("k", "text", (1, 2), "stop", 0.5), Choice("k", (-0.5, 0.0), 0.5)
SCORED = Scores("k", (Likelihood("ab", (-0.5, -1.0)),), 0.5)


@pytest.mark.parametrize(("request_", "answer"), [(TEXT, COMPLETION), (CHOICE, CHOSEN), (SCORE, SCORED)])
def test_a_right_answer_has_no_fault(request_: AnyRequest, answer: Answer) -> None:
    assert CHECKER.fault(request_, answer) == ""


@pytest.mark.parametrize(
    ("request_", "answer", "changes", "fault"),
    [
        (TEXT, COMPLETION, {"finish_reason": "error", "error": "\x1b[2J a\nb" + "x" * 1000}, "?[2J a b"),
        (TEXT, COMPLETION, {"finish_reason": "error"}, "without a cause"),
        (TEXT, COMPLETION, {"error": "odd"}, "odd"),
        (TEXT, COMPLETION, {"token_ids": (100,)}, "outside the model's vocabulary of 100"),
        (TEXT, COMPLETION, {"token_ids": (-1,)}, "outside"),
        (TEXT, COMPLETION, {"token_ids": (1,) * 5}, "5 tokens, and was asked for at most 4"),
        (TEXT, COMPLETION, {"text": "a END b"}, "another question"),
        (TEXT, COMPLETION, {"text": "x" * 2_000_000}, "a text of 2,000,000 characters"),
        (TEXT, COMPLETION, {"seconds": math.nan}, "took nan s"),
        (TEXT, COMPLETION, {"seconds": -1.0}, "took -1.0 s"),
        (TEXT, COMPLETION, {"seconds": math.inf}, "took inf s"),
        (TEXT, COMPLETION, {"likelihoods": (Likelihood("a", (-1.0,)),)}, "another question"),
        (TEXT, CHOSEN, {}, "another question"),
        (CHOICE, CHOSEN, {"logprobs": (-0.5,)}, "another question"),
        (CHOICE, CHOSEN, {"logprobs": (-0.5, math.nan)}, "a log-probability that is none"),
        (CHOICE, CHOSEN, {"logprobs": (-0.5, -math.inf)}, "a log-probability that is none"),
        (CHOICE, CHOSEN, {"logprobs": (-0.5, 0.5)}, "a log-probability that is none"),
        (CHOICE, COMPLETION, {}, "another question"),
        (SCORE, SCORED, {"continuations": ()}, "another question"),
        (SCORE, SCORED, {"continuations": (Likelihood("ab", (-0.5,)),)}, "another question"),
        (SCORE, SCORED, {"continuations": (Likelihood("xy", (-0.5, -1.0)),)}, "another question"),
        (SCORE, SCORED, {"continuations": (Likelihood("ab", (-0.5, math.nan)),)}, "a log-probability that is none"),
        (SCORE, CHOSEN, {}, "another question"),
    ],
)
def test_each_fault_is_one_line(request_: AnyRequest, answer: Any, changes: dict[str, Any], fault: str) -> None:
    said = CHECKER.fault(request_, dataclasses.replace(answer, **changes))
    assert fault in said
    assert said.isprintable()
    assert len(said) <= 300


def test_a_text_is_what_its_token_ids_make(llama3_like: Path) -> None:
    files = inspect(llama3_like, "m")
    model = AnswerLimits.of(TransformersBackend, files, (1,), 64)
    assert model.tokenizer is not None
    assert model.vocabulary == len(model.tokenizer)
    decoding = Decoding(4)
    row, finisher = GrowingRow.begin(TEXT, decoding), Finisher(model.tokenizer, (1,), decoding, 64)
    made = [finisher.advance(row, token) for token in (40, 50, 60, 1)]
    right = made.pop()
    assert right is not None
    assert made == [None] * 3
    checker = Checker(model, decoding)
    assert checker.fault(TEXT, right) == ""
    assert right.text
    for changes in (
        {"text": right.text + "!"}, {"text": ""}, {"finish_reason": "length"}, {"token_ids": (40, 50, 61, 1)},
        {"token_ids": (40, 50)}, {"token_ids": ()}, {"token_ids": (1, 40, 50, 1)},
    ):  # fmt: skip
        assert "token" in checker.fault(TEXT, dataclasses.replace(right, **changes))
    assert AnswerLimits.of(ScriptedBackend, files, (1,), 64).tokenizer is None  # its texts are not those of its ids


def test_answers_are_to_the_engines_own_requests() -> None:
    good = AnswerBatch((COMPLETION,))
    check_keys(good, {"k"}, set())
    check_keys(good, {}, {"k"})
    check_keys(AnswerBatch(last=True), {"k"}, set())
    for batch, said in (
        (AnswerBatch((COMPLETION, COMPLETION)), "twice"),
        (AnswerBatch((dataclasses.replace(COMPLETION, key="other"),)), "that it was not asked"),
        (AnswerBatch(), "an empty message"),
        (AnswerBatch((COMPLETION,), (CHOSEN,)), "several kinds"),
    ):
        with pytest.raises(GarbageError, match=said):
            check_keys(batch, {"k"}, set())
