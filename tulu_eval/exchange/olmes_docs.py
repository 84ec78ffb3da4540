r"""Which question a document of olmes' tasks is, and its right answer in the form of this project's items.

========================================  =========================================================  ================
task of olmes                             document                                                   benchmark
========================================  =========================================================  ================
``gsm8k``                                 ``question``, ``answer``, ``short_answer``                 ``gsm8k``
``bbh_TASK``                              ``input``, ``answer``                                      ``bbh``
``mmlu_SUBJECT:mc``                       ``query`` (question and choices), ``choices``, ``gold``    ``mmlu``
``ifeval``                                ``prompt``, ``instruction_id_list``                        ``ifeval``
``codex_humaneval``                       ``task_id``, ``prompt``, ``test``, ``entry_point``         ``humaneval``
``truthfulqa``                            ``question``, ``choices``, ``mc1_indices``                 ``truthfulqa``
========================================  =========================================================  ================

The document tells the form, not the task's name. MMLU's query is ``Question: ...\n A. ...\n B. ...\n C. ...\n D. ...\nAnswer:``
(``make_mcq_prompt`` in ``tasks/utils.py``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tulu_eval.benchmarks import humaneval
from tulu_eval.benchmarks.mmlu import LETTERS, ChoiceRow
from tulu_eval.exchange.lm_eval_docs import ForeignQuestion
from tulu_eval.files import Row

_CHOICES = re.compile(
    r"Question: (?P<question>.*)\n ?A\. (?P<A>.*)\n ?B\. (?P<B>.*)\n ?C\. (?P<C>.*)\n ?D\. (?P<D>.*)\nAnswer:", re.DOTALL
)
_EXTRACTING = ("answer_regexes", "sanitize_code")
"""Settings of olmes' metric with which it runs a part of the answer that its files do not have."""


def question_of(doc: Row, task: str, config: Mapping[str, Any]) -> ForeignQuestion:
    """Returns the question of a document.

    Args:
        doc: The document.
        task: olmes' name of the task, without what follows a colon.
        config: The task's settings; empty if they are unknown.

    Raises:
        DataError: If the document has another form than those above; the message names the line.
    """
    fields = doc.data.keys()
    if {"task_id", "prompt", "entry_point"} <= fields:
        metric = config.get("metric_kwargs")
        if isinstance(metric, dict) and any(metric.get(name) for name in _EXTRACTING):
            raise doc.error("olmes ran a part of this answer (answer_regexes or sanitize_code) that its files do not have")
        given = humaneval.Exercise(doc.text("prompt"), doc.text("test"), doc.text("entry_point"))
        return ForeignQuestion(given.prompt, humaneval.written(given))
    if "mc1_indices" in fields:
        return ForeignQuestion(doc.text("question"), None)
    if {"choices", "gold", "query"} <= fields:
        return _choices(doc, task)
    if {"input", "answer"} <= fields:
        return ForeignQuestion(doc.text("input"), doc.text("answer"), _part(task, "bbh_"))
    if "prompt" in fields and "question" not in fields:  # IFEval's documents have no right answer
        return ForeignQuestion(doc.text("prompt"), None)
    return ForeignQuestion(doc.text("question"), doc.text("short_answer" if "short_answer" in fields else "answer"))


def _choices(doc: Row, task: str) -> ForeignQuestion:
    found, gold = _CHOICES.fullmatch(doc.text("query")), doc.data["gold"]
    if found is None or doc.data["choices"] != list(LETTERS):
        raise doc.error("its 'choices' are not the letters A to D of a question, as those of MMLU's tasks with ':mc' are")
    if isinstance(gold, bool) or not isinstance(gold, int) or not 0 <= gold < len(LETTERS):
        raise doc.error("its 'gold' is not a number from 0 to 3, as MMLU's is")
    row = ChoiceRow(found["question"], tuple(found[letter] for letter in LETTERS), LETTERS[gold])
    return ForeignQuestion(row.asked, row.answer, _part(task, "mmlu_"))


def _part(task: str, suite: str) -> str:
    """Returns which part of a suite a task is; empty if the name does not tell."""
    return task.removeprefix(suite) if task.startswith(suite) else ""
