r"""GSM8K as lighteval @ ea46419a measured SmolLM2: five training examples per item as turns, the answer after ``####``.

Sources: huggingface/lighteval @ ea46419a (``tasks/lighteval_task.py`` draws, ``tasks/prompt_manager.py`` writes the turns,
``metrics/normalizations.py`` reads the answer) and huggingface/smollm @ c5525272, ``text/evaluation/tasks.py``, run as
``custom|gsm8k|5|1`` with ``--use_chat_template``. One item becomes ten turns of examples and one of its own::

    user:       Question: Weng earns $12 an hour ... How much did she earn?\nAnswer:
    assistant:   Weng earns 12/60 = $<<12/60=0.2>>0.2 per minute. ...\n#### 10
                (four more pairs)
    user:       Question: A robe takes 2 bolts ... in total does it take?\nAnswer:

One random generator, of seed 42, shuffles the test set and then draws every item's examples, so the order of the items decides
the examples. Chat models have no stop string there; base models stop at ``Question``.
"""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from tulu_eval.benchmarks.base import Benchmark, Item, Prompt, Protocol
from tulu_eval.benchmarks.gsm8k_data import TEST_SIZE, TRAIN_SIZE, check_rows, read_rows, read_solutions
from tulu_eval.benchmarks.gsm8k_scorers import grade_hash_answer, grade_last_number, grade_stated_answer
from tulu_eval.errors import DataError
from tulu_eval.records import Decoding, Grade, Turn

SEED = 42
SHOTS = 5

REVISION = "e53f048856ff4f594e959d75785d2c2d37b678ee"
"""Commit of ``openai/gsm8k`` on the hub that the recipe names (``text/evaluation/tasks.py``)."""

DRAWS_SHA256 = "45a789d3a6db40827086ae3142839b1c8be8a7ae79db409028ae6568d5aeeac9"
"""Hash of :func:`draws_text`."""

LIGHTEVAL = Protocol(
    name="lighteval",
    summary="all 1319 items, 5 drawn training examples each as turns (SmolLM2's card)",
    n=TEST_SIZE,
    decoding=Decoding(max_new_tokens=256),
    plain_decoding=Decoding(max_new_tokens=256, stop=("Question:", "Question")),
    metric="exact_match",
    prompt_id=DRAWS_SHA256[:8],
    covers=("lighteval",),
)


@dataclasses.dataclass(frozen=True, slots=True)
class ShotItem(Item):
    """An item with its examples.

    Attributes:
        shots: Pairs of question and solution, the solution with its calculations in ``<< >>`` and its ``####`` line.
    """

    shots: tuple[tuple[str, str], ...] = ()


class LightevalGSM8K(Benchmark):
    """GSM8K's protocol ``lighteval``; see the module's docstring for one item and its prompt."""

    name: ClassVar[str] = "gsm8k"
    scorers: ClassVar[tuple[str, ...]] = ("hash-answer", "last-number", "stated-answer")
    protocols: ClassVar[Mapping[str, Protocol]] = MappingProxyType({LIGHTEVAL.name: LIGHTEVAL})

    def load(self, protocol: Protocol, data: Path | None) -> list[Item]:
        """Returns the 1319 items in the order of the recipe, each with its five examples.

        ``data`` is ``test.jsonl`` with ``train.jsonl`` beside it; ``None`` for both from the hub.
        """
        rows = read_rows(data, revision=REVISION)
        check_rows(rows, data)
        solutions = read_solutions(data, revision=REVISION)
        return [
            ShotItem(f"test-{index}", *rows[index], shots=tuple(solutions[shot] for shot in shots))
            for index, shots in draws().items()
        ]

    def render(self, item: Item) -> Prompt:
        """Returns the examples and the question as turns; a base model gets them as blocks between blank lines."""
        if not isinstance(item, ShotItem):
            raise DataError(f"item {item.id}", "has no examples, without which the protocol lighteval has no prompt")
        shots = [(_question(question), f" {solution}") for question, solution in item.shots]
        earlier = [turn for question, answer in shots for turn in (Turn("user", question), Turn("assistant", answer))]
        asked = _question(item.question)
        plain = "\n\n".join([*map("".join, shots), asked])
        return Prompt(user=asked, prefill="", plain=plain, earlier=tuple(earlier))

    def constant_prompt(self) -> str:
        """Returns which examples precede which item, since nothing else is the same in every prompt."""
        return draws_text()

    def grade(self, target: str, text: str) -> tuple[Grade, ...]:
        """Returns the grade of the card's scorer, then those of the Tulu suite's two."""
        return grade_hash_answer(target, text), grade_last_number(target, text), grade_stated_answer(target, text)


def _question(question: str) -> str:
    return f"Question: {question}\nAnswer:"


@functools.cache
def draws() -> Mapping[int, tuple[int, ...]]:
    """Returns the training rows of each test row's examples, test rows in the order of the run; all counted from 0."""
    generator = random.Random(SEED)  # noqa: S311 - the recipe's own generator
    order = list(range(TEST_SIZE))
    generator.shuffle(order)
    return MappingProxyType({index: tuple(generator.sample(range(TRAIN_SIZE), SHOTS)) for index in order})


def draws_text() -> str:
    """Returns the draws as text, a line per item: ``test-588: train-7268 train-4403 train-1111 train-3183 train-3716``."""
    return "".join(f"test-{item}: {' '.join(f'train-{shot}' for shot in shots)}\n" for item, shots in draws().items())
