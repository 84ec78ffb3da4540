r"""GSM8K as lm-eval's task ``gsm8k_cot`` measures it: eight examples, ``Q:`` and ``A:``, two filters side by side.

Source: lm-eval 0.4.13, ``tasks/gsm8k/gsm8k-cot.yaml`` (version 3.0) with the defaults of its ``hf`` and ``vllm`` models, which
allow 256 new tokens. One item without a chat template, examples before it in the same form::

    Q: There are 15 trees in the grove. ...
    A: There are 15 trees originally. ... The answer is 6.

    (seven more)

    Q: A robe takes 2 bolts ... in total does it take?
    A:

A model with a chat template gets what ``--apply_chat_template`` gives: each example is a user's turn ``Q: ...\nA:`` and an
assistant's turn with the reasoning, since version 0.4.13 takes ``--fewshot_as_multiturn`` along unless it is told not to.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from tulu_eval.benchmarks.base import Benchmark, Item, Prompt, Protocol
from tulu_eval.benchmarks.gsm8k_data import TEST_SIZE, read_test_items
from tulu_eval.benchmarks.gsm8k_exemplars import checked, exemplars
from tulu_eval.benchmarks.gsm8k_scorers import grade_flexible_extract, grade_stated_answer, grade_strict_match
from tulu_eval.records import Decoding, Grade, Turn

PREFIX_SHA256 = "3d55795c084e26f6ebb6925833999a44f75c4280eb7ab4d66f9bb940244e4847"
"""Hash of the examples as they precede every question in the plain form."""

DECODING = Decoding(max_new_tokens=256, stop=("Q:", "</s>", "<|im_end|>"))

LM_EVAL_COT = Protocol(
    name="lm-eval-cot",
    summary="all 1319 items as lm-eval's gsm8k_cot, 8-shot, examples as turns in chat form",
    n=TEST_SIZE,
    decoding=DECODING,
    plain_decoding=DECODING,
    metric="exact_match",
    prompt_id=PREFIX_SHA256[:8],
    covers=("lm-eval-cot",),
)


class LmEvalGSM8K(Benchmark):
    """GSM8K's protocol ``lm-eval-cot``; see the module's docstring for one item and its prompt."""

    name: ClassVar[str] = "gsm8k"
    scorers: ClassVar[tuple[str, ...]] = ("strict-match", "flexible-extract", "stated-answer")
    protocols: ClassVar[Mapping[str, Protocol]] = MappingProxyType({LM_EVAL_COT.name: LM_EVAL_COT})

    def load(self, protocol: Protocol, data: Path | None) -> list[Item]:
        """Returns the 1319 items in the file's order."""
        return read_test_items(data)

    def render(self, item: Item) -> Prompt:
        """Returns the examples as turns and the question; a base model gets them as text."""
        asked = _question(item.question)
        earlier = [
            turn
            for question, reasoning in exemplars()
            for turn in (Turn("user", _question(question)), Turn("assistant", reasoning))
        ]
        return Prompt(user=asked, prefill="", plain=self.constant_prompt() + asked, earlier=tuple(earlier))

    def constant_prompt(self) -> str:
        """Returns the eight examples in the plain form."""
        return _prefix()

    def grade(self, target: str, text: str) -> tuple[Grade, ...]:
        """Returns the grades of lm-eval's two filters, then that of the stricter scorer."""
        return grade_strict_match(target, text), grade_flexible_extract(target, text), grade_stated_answer(target, text)


@functools.cache
def _prefix() -> str:
    blocks = [f"{_question(question)} {reasoning}\n\n" for question, reasoning in exemplars()]
    return checked("".join(blocks), PREFIX_SHA256)


def _question(question: str) -> str:
    return f"Q: {question}\nA:"
