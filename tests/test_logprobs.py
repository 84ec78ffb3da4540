"""Requests for log-probabilities have keys of their own content; their answers add up."""

from __future__ import annotations

import math

import pytest

from tulu_eval.logprobs import ChoiceRequest, Continuation, ScoreRequest
from tulu_eval.records import Request

PROMPT = ("settings", (1, 2, 3), "text")
YES, NO = Continuation((4,), " yes"), Continuation((5, 6), " no")


def test_equal_content_has_equal_keys_and_every_difference_another() -> None:
    made = [
        Request.of(*PROMPT),
        ChoiceRequest.of(*PROMPT, (4, 5)),
        ChoiceRequest.of(*PROMPT, (5, 4)),
        ChoiceRequest.of("other", (1, 2, 3), "text", (4, 5)),
        ChoiceRequest.of("settings", (1, 2), "text", (4, 5)),
        ScoreRequest.of(*PROMPT, (YES, NO)),
        ScoreRequest.of(*PROMPT, (NO, YES)),
        ScoreRequest.of(*PROMPT, (YES,)),
        ScoreRequest.of(*PROMPT, (Continuation((4,), "yes"),)),
    ]
    assert len({one.key for one in made}) == len(made)
    assert ChoiceRequest.of("settings", (1, 2, 3), "another text", (4, 5)).key == made[1].key
    assert ScoreRequest.of("settings", (1, 2, 3), "another text", (YES, NO)).key == made[5].key


def test_positions_that_an_engine_needs() -> None:
    assert ChoiceRequest.of(*PROMPT, (4, 5)).length == 4
    assert ScoreRequest.of(*PROMPT, (YES, NO)).length == 6


def test_a_likelihood_is_summed_and_shared_out_by_tokens_and_by_bytes() -> None:
    found = Continuation((4, 5), " né").scored(iter([-1.0, -3.0]))
    assert (found.logprobs, found.text) == ((-1.0, -3.0), " né")
    assert (found.total, found.per_token, found.per_byte) == (-4.0, -2.0, -1.0)
    assert Continuation((4,), "").scored([-1.0]).per_byte == -math.inf


def test_candidates_have_texts_or_none() -> None:
    assert ChoiceRequest.of(*PROMPT, (4, 5), (" a", " b")).continuations == (Continuation((4,), " a"), Continuation((5,), " b"))
    assert ChoiceRequest.of(*PROMPT, (4, 5)).continuations == ()


def test_a_sum_is_exact() -> None:
    score = Continuation((1,) * 3, "abc").scored([-1e16, -1.0, 1e16])
    assert score.total == pytest.approx(-1.0, abs=0)
