"""Documents of olmes' tasks: which item they are, and one line where that cannot be told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulu_eval.errors import DataError
from tulu_eval.exchange.lm_eval_docs import ForeignQuestion
from tulu_eval.exchange.olmes_docs import question_of
from tulu_eval.files import Place, Row

FUNCTION = {"task_id": "HumanEval/0", "prompt": "def f():\n", "test": "def check(c): ...", "entry_point": "f"}


def document(**data: Any) -> Row:
    return Row(Place(Path("x-requests.jsonl"), 1), data)


@pytest.mark.parametrize(
    ("data", "task", "question"),
    [
        ({"question": "q", "answer": "so #### 7", "short_answer": "7"}, "gsm8k", ForeignQuestion("q", "7")),
        ({"question": "q", "answer": "so #### 7"}, "gsm8k", ForeignQuestion("q", "so #### 7")),
        ({"input": "q", "answer": "No", "query": "Q: q"}, "bbh_navigate", ForeignQuestion("q", "No", "navigate")),
        ({"input": "q", "answer": "No"}, "mine", ForeignQuestion("q", "No", "")),
        ({"prompt": "write", "instruction_id_list": []}, "ifeval", ForeignQuestion("write", None)),
        ({"question": "q", "choices": ["a"], "labels": [1], "mc1_indices": [0]}, "truthfulqa", ForeignQuestion("q", None)),
    ],
)
def test_forms(data: dict[str, Any], task: str, question: ForeignQuestion) -> None:
    assert question_of(document(**data), task, {}) == question


def test_a_program_is_what_the_answer_completes() -> None:
    found = question_of(document(**FUNCTION), "codex_humaneval", {"metric_kwargs": {"pass_at_ks": [1]}})
    assert found.text == "def f():\n"
    with pytest.raises(DataError, match="olmes ran a part of this answer"):
        question_of(document(**FUNCTION), "codex_humaneval", {"metric_kwargs": {"sanitize_code": True}})


WORDS = st.text(alphabet="ab .?\n", min_size=1).filter(lambda text: text.strip())


@given(
    question=WORDS, choices=st.lists(WORDS, min_size=4, max_size=4), gold=st.integers(0, 3), space=st.sampled_from(["", " "])
)
def test_choices_are_read_out_of_the_query(question: str, choices: list[str], gold: int, space: str) -> None:
    lettered = "".join(f"\n{space}{letter}. {text}" for letter, text in zip("ABCD", choices, strict=True))
    data = {"query": f"Question: {question}{lettered}\nAnswer:", "choices": list("ABCD"), "gold": gold}
    found = question_of(document(**data), "mmlu_anatomy", {})
    asked = "\n".join((question, *(f"{letter}. {text}" for letter, text in zip("ABCD", choices, strict=True))))
    assert found == ForeignQuestion(asked, "ABCD"[gold], "anatomy")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"choices": ["nerve", "bone", "skin", "eye"]}, "not the letters A to D"),
        ({"query": "Question: x\nAnswer:"}, "not the letters A to D"),
        ({"gold": 4}, "its 'gold' is not a number from 0 to 3"),
        ({"gold": True}, "its 'gold' is not a number from 0 to 3"),
    ],
)
def test_other_choices_are_refused(more: dict[str, Any], message: str) -> None:
    data = {"query": "Question: q\n A. a\n B. b\n C. c\n D. d\nAnswer:", "choices": list("ABCD"), "gold": 1}
    with pytest.raises(DataError, match=message):
        question_of(document(**{**data, **more}), "mmlu_anatomy", {})
