"""Which question a document of lm-eval's tasks is, and its right answer in the form of this project's items.

==============================================  ====================================================  =====================
task of lm-eval 0.4.13                          document                                              benchmark
==============================================  ====================================================  =====================
``gsm8k``, ``gsm8k_cot``                        ``question``, ``answer``                              ``gsm8k``
``ifeval``                                      ``prompt``, ``instruction_id_list``, ``kwargs``       ``ifeval``
``mmlu_SUBJECT``                                ``question``, ``subject``, ``choices``, ``answer``    ``mmlu``
``bbh_cot_fewshot_TASK``                        ``input``, ``target``                                 ``bbh``
``truthfulqa_mc1``, ``truthfulqa_mc2``          ``question``, ``mc1_targets``, ``mc2_targets``        ``truthfulqa``
``humaneval``, ``humaneval_instruct``           ``task_id``, ``prompt``, ``test``, ``entry_point``    ``humaneval``
==============================================  ====================================================  =====================

The document tells the form, not the task's name, so a user's variant of a task is read as the task.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from tulu_eval.benchmarks import humaneval
from tulu_eval.benchmarks.mmlu import LETTERS, ChoiceRow
from tulu_eval.files import Row

_BBH = re.compile(r"bbh(?:_cot)?_(?:few|zero)shot_(?P<name>\w+)")


class ForeignQuestion(NamedTuple):
    """What a document asks.

    Attributes:
        answer: The right answer as an item's target, or a whole solution; ``None`` if the document has none to compare.
        group: The item's group; empty if nothing names it.
    """

    text: str
    answer: str | None
    group: str = ""


def question_of(doc: Row, task: str) -> ForeignQuestion:
    """Returns the question of a document; ``task`` is lm-eval's name of the task.

    Raises:
        DataError: If the document has another form than those above; the message names the line.
    """
    fields = doc.data.keys()
    if {"task_id", "prompt", "entry_point"} <= fields:
        given = humaneval.Exercise(doc.text("prompt"), doc.text("test"), doc.text("entry_point"))
        return ForeignQuestion(given.prompt, humaneval.written(given))
    if "choices" in fields:
        return _choices(doc)
    if {"input", "target"} <= fields:
        named = _BBH.fullmatch(task)
        return ForeignQuestion(doc.text("input"), doc.text("target"), named["name"] if named else "")
    if "prompt" in fields and "question" not in fields:  # IFEval's documents have no right answer
        return ForeignQuestion(doc.text("prompt"), None)
    if "mc1_targets" in fields:
        return ForeignQuestion(doc.text("question"), None)
    return ForeignQuestion(doc.text("question"), doc.text("answer"))


def _choices(doc: Row) -> ForeignQuestion:
    choices, answer = doc.data["choices"], doc.data.get("answer")
    if not isinstance(choices, list) or len(choices) != len(LETTERS) or not all(isinstance(one, str) for one in choices):
        raise doc.error("its 'choices' are not four texts, as MMLU's are")
    if isinstance(answer, bool) or not isinstance(answer, int) or not 0 <= answer < len(LETTERS):
        raise doc.error("its 'answer' is not a number from 0 to 3, as MMLU's is")
    row = ChoiceRow(doc.text("question"), tuple(choices), LETTERS[answer])
    group = doc.text("subject") if "subject" in doc.data else ""
    return ForeignQuestion(row.asked, row.answer, group)
