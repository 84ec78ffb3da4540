r"""GSM8K, 8-shot chain of thought, as open-instruct measured the Tulu suite.

Source: allenai/open-instruct @ ea3467db, ``eval/gsm/run_eval.py`` and the group ``gsm_cot`` of
``scripts/submit_eval_jobs.py``. One raw row of the data (openai/grade-school-math, ``test.jsonl``)::

    {"question": "A robe takes 2 bolts ... in total does it take?", "answer": "It takes 2/2=... #### 3"}

becomes one user turn with all eight exemplars and the question, in the Tulu template, with ``Answer:`` prefilled::

    <|user|>
    Answer the following questions.

    Question: There are 15 trees in the grove. ...
    Answer: There are 15 trees originally. ... So the answer is 6.

    (seven more)

    Question: A robe takes 2 bolts ... in total does it take?
    <|assistant|>
    Answer:

The published numbers have these quirks, which this module keeps: only 200 of the 1319 items are used; the last number anywhere
in the output is the answer; an integer loses its sign; ``18.00`` is compared as ``1800``. The second scorer,
``stated-answer``, has none of the quirks in reading the answer.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from tulu_eval.benchmarks import gsm8k_hypotheses
from tulu_eval.benchmarks.base import Benchmark, Item, Prompt, Protocol
from tulu_eval.benchmarks.gsm8k_data import TEST_SIZE, check_rows, read_rows, read_training_items
from tulu_eval.benchmarks.gsm8k_exemplars import checked, so_exemplars
from tulu_eval.benchmarks.gsm8k_lighteval import LIGHTEVAL, LightevalGSM8K
from tulu_eval.benchmarks.gsm8k_lm_eval import LM_EVAL_COT, LmEvalGSM8K
from tulu_eval.benchmarks.gsm8k_olmes import OLMES_TULU3, OlmesGSM8K
from tulu_eval.benchmarks.gsm8k_scorers import grade_last_number, grade_stated_answer
from tulu_eval.benchmarks.hypothesis import Hypothesis
from tulu_eval.errors import DataError
from tulu_eval.records import Decoding, Grade

PREFIX_SHA256 = "bc98d2864d2c74ae324561ed4fa497c577cd251cc06aeae2c2a23bd5ef60c404"
"""Hash of the 2294 characters before the question; computed from open-instruct's ``eval/gsm/examplars.py`` @ ea3467db."""

CARD = "card-200"
"""The protocol behind the cells of the Tulu cards."""

SUBSET_SIZE = 200
SUBSET_SEED = 42

DECODING = Decoding(max_new_tokens=512)
"""Chat format: greedy, 512 tokens, no stop string (open-instruct ``run_eval.py``, ``stop=None``)."""

PLAIN_DECODING = Decoding(max_new_tokens=512, stop=("\n",))
"""Base models stop at a newline (open-instruct ``run_eval.py``, the branch without ``--use_chat_format``)."""

OTHERS: Mapping[str, type[Benchmark]] = MappingProxyType(
    {LIGHTEVAL.name: LightevalGSM8K, LM_EVAL_COT.name: LmEvalGSM8K, OLMES_TULU3.name: OlmesGSM8K}
)
"""The protocols of other harnesses, which have prompts and scorers of their own."""


def _protocol(name: str, summary: str, n: int, covers: tuple[str, ...]) -> Protocol:
    return Protocol(name, summary, n, DECODING, PLAIN_DECODING, "exact_match", PREFIX_SHA256[:8], covers)


class GSM8K(Benchmark):
    """GSM8K 8-shot chain of thought; see the module's docstring for one item and its prompt."""

    name: ClassVar[str] = "gsm8k"
    scorers: ClassVar[tuple[str, ...]] = ("last-number", "stated-answer")
    version: ClassVar[int] = 2  # in version 1, stated-answer took the first digits behind "answer is"
    protocols: ClassVar[Mapping[str, Protocol]] = MappingProxyType(
        {
            CARD: _protocol(CARD, "the 200 items (seed 42) behind the published cells", SUBSET_SIZE, (CARD,)),
            "full": _protocol("full", "all 1319 items, the published 200 first", TEST_SIZE, (CARD, "full")),
            "custom": _protocol("custom", "the same recipe on the rows of --data", 0, ("custom",)),
            LIGHTEVAL.name: LIGHTEVAL,
            LM_EVAL_COT.name: LM_EVAL_COT,
            OLMES_TULU3.name: OLMES_TULU3,
        }
    )

    aliases: ClassVar[Mapping[str, str]] = MappingProxyType({"published": CARD})  # until 2026-11-30

    def under(self, protocol: str) -> Benchmark:
        """Returns the benchmark with the prompts and scorers of another harness's protocol, else itself."""
        return OTHERS[protocol]() if protocol in OTHERS else self

    def load(self, protocol: Protocol, data: Path | None) -> list[Item]:
        """Returns the published 200 items in their order, then, for ``full``, the rest in the file's order."""
        if protocol.name == "custom" and data is None:
            raise DataError("--protocol custom", "needs --data FILE")
        rows = read_rows(data)
        items = [Item(f"test-{index}", question, target) for index, (question, target) in enumerate(rows)]
        if protocol.name == "custom":
            return [Item(f"row-{index}", item.question, item.target) for index, item in enumerate(items)]
        check_rows(rows, data)
        first = published_indices()
        if protocol.name == CARD:
            return [items[index] for index in first]
        chosen = set(first)
        return [items[index] for index in first] + [item for index, item in enumerate(items) if index not in chosen]

    def training_items(self, data: Path | None) -> list[Item]:
        """Returns the rows of ``data``, else the 7473 of the training split; refuses the test set."""
        return read_training_items(data)

    def render(self, item: Item) -> Prompt:
        """Returns the prompt of open-instruct's ``run_eval.py`` in its chat form and its plain form."""
        content = few_shot_prefix() + "Question: " + item.question.strip()
        return Prompt(user=content, prefill="Answer:", plain=content + "\nAnswer:")

    def constant_prompt(self) -> str:
        """Returns the eight exemplars that precede every question."""
        return few_shot_prefix()

    def grade(self, target: str, text: str) -> tuple[Grade, ...]:
        """Returns the grade of the published scorer, then that of the stricter scorer."""
        return grade_last_number(target, text), grade_stated_answer(target, text)

    def hypotheses(self, protocol: Protocol) -> tuple[Hypothesis, ...]:
        """Returns scorers of all harnesses, other examples and words, and what holds for any benchmark."""
        return gsm8k_hypotheses.of(protocol)


def published_indices() -> list[int]:
    """Returns the 0-based lines of the 200 items in order: the first ``random.sample`` after ``random.seed(42)``."""
    return random.Random(SUBSET_SEED).sample(range(TEST_SIZE), SUBSET_SIZE)  # noqa: S311 - the recipe's own generator


@functools.cache
def few_shot_prefix() -> str:
    """Returns the 2294 characters before the question, built from the exemplars that the ``lm-eval`` package ships.

    lm-eval's ``gsm8k-cot.yaml`` has the same eight questions and reasoning. Its targets end in "The answer is N.",
    open-instruct's end in "So the answer is N.".
    """
    blocks = [f"Question: {question}\nAnswer: {answer}" for question, answer in so_exemplars()]
    return checked("Answer the following questions.\n\n" + "\n\n".join(blocks) + "\n\n", PREFIX_SHA256)
