"""A judge in this process gets its questions through its own chat template, all of each, or says which it cannot be asked."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from tulu_eval.errors import PreflightError
from tulu_eval.judging.judge_recipe import Message
from tulu_eval.models.model_files import from_path
from tulu_eval.runs.local_judge import writer

TAKES_ALL = (
    "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)


@dataclasses.dataclass
class Asked:
    """A question as far as its turns go."""

    messages: tuple[Message, ...]


@pytest.fixture
def judge(llama3_like: Path, tmp_path: Path) -> Callable[[str], Any]:
    def make(template: str) -> Any:
        shutil.copytree(llama3_like, tmp_path / "judge")
        (tmp_path / "judge/chat_template.jinja").write_text(template)
        return from_path(tmp_path / "judge")

    return make


def test_the_tokens_are_those_of_transformers(judge: Callable[[str], Any]) -> None:
    files = judge(TAKES_ALL)
    turns = (Message("system", "Be fair."), Message("user", "Which <b>?"))
    ((tokens, why),) = writer(files)([Asked(turns)])  # type: ignore[list-item]
    tokenizer = AutoTokenizer.from_pretrained(files.path)
    messages = [{"role": turn.role, "content": turn.content} for turn in turns]
    assert tokens == tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert why == ""


def test_a_question_that_the_template_does_not_take_is_said_and_others_are_asked(judge: Callable[[str], Any]) -> None:
    files = judge("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}")
    both, user = (Message("system", "Be fair."), Message("user", "Which?")), (Message("user", "Which?"),)
    (dropped, asked) = writer(files)([Asked(both), Asked(user)])  # type: ignore[list-item]
    assert dropped == ([], f"the chat template of {files.name} does not write the system's text")
    assert asked[0]
    assert asked[1] == ""


def test_a_model_without_a_template_is_no_judge(judge: Callable[[str], Any]) -> None:
    with pytest.raises(PreflightError, match="judge has no chat template, so it cannot be asked as a judge"):
        writer(judge(""))
