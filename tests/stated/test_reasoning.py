"""Reasoning and run-on are cut, however they are nested or left open."""

from __future__ import annotations

import pytest

from tulu_eval.stated.reasoning import before_next_question, without_reasoning


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("a", "a"),
        ("a<think>b</think>c", "ac"),
        ("<think>a</think>b<think>c</think>d", "bd"),
        ("<think>a<think>b</think>c</think>d", "d"),
        ("<think>a<reasoning>b</think>c", "c"),
        ("<think>a</reasoning>b", "b"),
        ("a</think>b", "b"),
        ("a</think>b</think>c", "c"),
        ("a<think>b", ""),
        ("<think>a<think>b</think>c", ""),
        ("<Think budget='3'>a</THINK>b", "b"),
        ("[THINK]a[/THINK]b", "b"),
        ("a <thinker> b", "a <thinker> b"),
        ("", ""),
    ],
)
def test_without_reasoning(text: str, kept: str) -> None:
    assert without_reasoning(text) == kept


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("a\n\nb", "a\nb"),
        ("a\nQuestion: b", "a"),
        ("a\n  **Question 2:** b", "a"),
        ("a\nQ: b", "a"),
        ("Question: a\nb", "Question: a\nb"),
        ("\nQuestion: a\nb", ""),
        ("a Question: b", "a Question: b"),
        ("a\n<|user|>\nb", "a"),
        ("<|assistant|>\na<|im_end|>b", "a"),
        ("a</s>b", "a"),
    ],
)
def test_before_next_question(text: str, kept: str) -> None:
    assert before_next_question(text) == kept
