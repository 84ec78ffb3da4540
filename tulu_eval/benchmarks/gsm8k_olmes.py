r"""GSM8K as olmes measures Tulu 3 (``gsm8k::tulu``): eight examples as turns, ``Answer:`` prefilled, the last number exactly.

Source: allenai/olmes @ b532dd59, read in the copy behzadshomali/olmes, folder ``oe_eval``: ``configs/tasks.py``,
``tasks/oe_eval_tasks/gsm8k.py``, ``tasks/base_task.py`` (``fewshot_context``), ``run_eval.py``. One item::

    user:       Question: There are 15 trees in the grove. ...
    assistant:  Answer: There are 15 trees originally. ... So the answer is 6.
                (seven more pairs)
    user:       Question: A robe takes 2 bolts ... in total does it take?
    assistant:  Answer:

olmes appends ``Answer:`` directly to the template's text. This module puts a space before it if the template does not end with
a newline; the templates of Tulu 3, Llama 3 and ChatML do. The examples are those of the Tulu 2 suite.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from tulu_eval.benchmarks.base import Benchmark, Item, Prompt, Protocol
from tulu_eval.benchmarks.gsm8k_data import TEST_SIZE, read_test_items
from tulu_eval.benchmarks.gsm8k_exemplars import checked, so_exemplars
from tulu_eval.benchmarks.gsm8k_scorers import grade_exact_last_number, grade_last_number, grade_stated_answer
from tulu_eval.records import Decoding, Grade, Turn

PREFIX_SHA256 = "ebdd47cbb504a9cda4f723c57d6ae72a60cc9749c6fcf6e0ef8718769c852edd"
"""Hash of the examples as they precede every question in the plain form."""

STOP = ("Question:", "</s>", "<|im_end|>")

OLMES_TULU3 = Protocol(
    name="olmes-tulu3",
    summary="all 1319 items as olmes' gsm8k::tulu, 8-shot, examples as turns (Tulu 3)",
    n=TEST_SIZE,
    decoding=Decoding(max_new_tokens=512, stop=STOP),
    plain_decoding=Decoding(max_new_tokens=512, stop=(*STOP, "\n\n")),
    metric="exact_match",
    prompt_id=PREFIX_SHA256[:8],
    covers=("olmes-tulu3",),
)


class OlmesGSM8K(Benchmark):
    """GSM8K's protocol ``olmes-tulu3``; see the module's docstring for one item and its prompt."""

    name: ClassVar[str] = "gsm8k"
    scorers: ClassVar[tuple[str, ...]] = ("exact-last-number", "last-number", "stated-answer")
    protocols: ClassVar[Mapping[str, Protocol]] = MappingProxyType({OLMES_TULU3.name: OLMES_TULU3})

    def load(self, protocol: Protocol, data: Path | None) -> list[Item]:
        """Returns the 1319 items in the file's order."""
        return read_test_items(data)

    def render(self, item: Item) -> Prompt:
        """Returns the examples as turns and the question; a base model gets them as text."""
        earlier = [
            turn
            for question, answer in so_exemplars()
            for turn in (Turn("user", f"Question: {question}"), Turn("assistant", f"Answer: {answer}"))
        ]
        asked = f"Question: {item.question}"  # olmes removes ``Answer:`` and the white space before it
        plain = f"{self.constant_prompt()}{asked}\nAnswer:"
        return Prompt(user=asked.rstrip(), prefill="Answer:", plain=plain, earlier=tuple(earlier))

    def constant_prompt(self) -> str:
        """Returns the eight examples in the plain form."""
        return _prefix()

    def grade(self, target: str, text: str) -> tuple[Grade, ...]:
        """Returns the grade of olmes' scorer, then those of the Tulu 2 suite's two."""
        return grade_exact_last_number(target, text), grade_last_number(target, text), grade_stated_answer(target, text)


@functools.cache
def _prefix() -> str:
    blocks = [f"Question: {question}\nAnswer: {answer}\n\n" for question, answer in so_exemplars()]
    return checked("".join(blocks), PREFIX_SHA256)
