r"""BBH (BIG-Bench Hard): 27 tasks, 6511 items, 3-shot with chain of thought or without, as open-instruct measured the suite.

Sources: the data, suzgunmirac/BIG-Bench-Hard @ 9ee07bd4 (MIT); the recipe, allenai/open-instruct @ 3c335be7,
``eval/bbh/run_eval.py``. One raw example of ``bbh/navigate.json``::

    {"input": "If you follow these instructions, do you return to the starting point? ...", "target": "No"}

becomes one user turn with the three worked examples of ``cot-prompts/navigate.txt``, with ``A:`` prefilled::

    <|user|>
    Given a series of navigation instructions, determine whether one would end up back at the starting point.

    Q: If you follow these instructions, do you return to the starting point? ...
    A: Let's think step by step.
    ... So the answer is No.

    (two more)

    Q: If you follow these instructions, do you return to the starting point? ...
    <|assistant|>
    A:

The value is the mean of the 27 tasks' shares. The published numbers are of 40 examples per task, drawn after
``random.seed(42)`` in the order in which a file system listed the tasks, so which 1080 items they are of is not known:
``cot-sorted-40`` is the draw in the tasks' alphabetic order, as good as any, and ``cot`` has all items.

Until 2024-06-24 (@ ea3467db) generation stopped at a blank line; since then chat models do not. Which of the two made the cards
is not recorded. The cards have rows of Llama 3's own chat models, for which the same commit added an option, so ``cot`` is the
later one; ``cot-blank-line`` is the earlier.

The published scorer has a quirk: it deletes punctuation from both sides, so that the 59 targets of dyck_languages become three,
which say no more than how many brackets there are, and multistep_arithmetic_two loses its signs. The second scorer keeps it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from tulu_eval import files
from tulu_eval.benchmarks.base import Aggregate, Benchmark, Item, Prompt, Protocol
from tulu_eval.benchmarks.matching import exact_match
from tulu_eval.errors import DataError, PreflightError
from tulu_eval.records import Decoding, Grade

SIZE, TASKS = 6511, 27
PER_TASK, SEED = 40, 42

DATA_SHA256 = "e50ca1a27b87713a07039d857253aec77d1f7daa7b66525b6309f0254f577dda"
"""Hash of all tasks' names, worked examples, inputs and targets; see :func:`check_tasks`."""

COT_SHA256 = "abaf6249714be50fec45712c9506928c2ea8903e024c6c6e7225b0fd79bda519"
DIRECT_SHA256 = "16a7327d8a010e2c54c4531c7e0deac7119a73d555afe2dab25bea9662c04c60"
"""Hashes of all tasks' worked examples as the prompts have them, joined by zero bytes in alphabetic order."""

SOURCE = "a copy of github.com/suzgunmirac/BIG-Bench-Hard, which has bbh/*.json and cot-prompts/*.txt"
STATEMENT = "So the answer is"

PLAIN_DECODING = Decoding(max_new_tokens=512, stop=("\n\n",))
"""Base models stop at a blank line under both rules (``run_eval.py`` l.110-111)."""

_STATED = re.compile(r"[t|T]he answer is ")


@dataclasses.dataclass(frozen=True, slots=True)
class Task:
    """One task of BBH.

    Attributes:
        examples: The three worked examples under the task's description, without white space at the ends.
        items: Pairs of input and target, in the file's order.
    """

    name: str
    examples: str
    items: tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TaskItem(Item):
    """An item with the worked examples that precede it."""

    examples: str


class _Example(files.Record, frozen=True):
    input: str
    target: str


class _TaskFile(files.Record, frozen=True):
    examples: list[_Example]
    canary: str = ""


def _protocol(name: str, summary: str, n: int, examples: str, stop: tuple[str, ...] = ()) -> Protocol:
    return Protocol(name, summary, n, Decoding(512, stop=stop), PLAIN_DECODING, "exact_match", examples[:8], (name,))


class BBH(Benchmark):
    """BBH with chain of thought; see the module's docstring for one item and its prompt."""

    name: ClassVar[str] = "bbh"
    scorers: ClassVar[tuple[str, ...]] = ("exact-match", "with-punctuation")
    aggregates: ClassVar[Mapping[str, Aggregate]] = MappingProxyType(dict.fromkeys(scorers, "macro"))
    protocols: ClassVar[Mapping[str, Protocol]] = MappingProxyType(
        {
            one.name: one
            for one in (
                _protocol("cot", "all 6511 items, 3-shot chain of thought, no stop string", SIZE, COT_SHA256),
                _protocol(
                    "cot-sorted-40",
                    "40 items per task, drawn with seed 42 in the tasks' alphabetic order; the cards' own 1080 are not known",
                    TASKS * PER_TASK,
                    COT_SHA256,
                ),
                _protocol(
                    "cot-blank-line",
                    "as cot, ending at a blank line, as open-instruct did until 2024-06-24",
                    SIZE,
                    COT_SHA256,
                    ("\n\n",),
                ),
                _protocol("direct", "all 6511 items, 3-shot without chain of thought", SIZE, DIRECT_SHA256),
            )
        }
    )

    def under(self, protocol: str) -> Benchmark:
        """Returns the benchmark whose answers need no statement for ``direct``, else itself."""
        return DirectBBH() if protocol == "direct" else self

    def load(self, protocol: Protocol, data: Path | None) -> list[Item]:
        """Returns the items, tasks in alphabetic order; raises PreflightError if no folder is given.

        ``data`` is the folder that has the folders ``bbh`` and ``cot-prompts``; there is no other source.
        """
        if data is None:
            raise PreflightError(f"bbh needs --data FOLDER: {SOURCE}")
        tasks = read_tasks(data)
        check_tasks(tasks, data)
        drawn = sorted_draw(tasks) if protocol.name == "cot-sorted-40" else [range(len(task.items)) for task in tasks]
        return [
            TaskItem(f"{task.name}-{place}", *task.items[place], group=task.name, examples=self.worked(task))
            for task, places in zip(tasks, drawn, strict=True)
            for place in places
        ]

    def worked(self, task: Task) -> str:
        """Returns a task's worked examples as the prompts have them."""
        return task.examples

    def render(self, item: Item) -> Prompt:
        """Returns the worked examples and the question, in chat form and in plain form."""
        if not isinstance(item, TaskItem):
            raise DataError(f"item {item.id}", "has no worked examples, without which BBH has no prompt")
        content = f"{item.examples}\n\nQ: {item.question}"
        return Prompt(user=content, prefill="A:", plain=content + "\nA:")

    def grade(self, target: str, text: str) -> tuple[Grade, ...]:
        """Returns the grade of the published scorer, then that of the scorer that keeps punctuation."""
        return self.graded(target, text, stated_answer(text))

    def graded(self, target: str, text: str, found: str | None) -> tuple[Grade, ...]:
        """Returns the grades of an answer; where none was found, of the whole text.

        The second scorer drops a full stop at the end of a whole text, which a statement never has.
        """
        whole = text.strip()
        kept = whole.removesuffix(".").rstrip() if found is None else found
        shown, answered = found or "", found is not None
        return (
            Grade("exact-match", shown, answered, float(exact_match(whole if found is None else found, target))),
            Grade("with-punctuation", shown, answered, float(kept.lower() == target.lower())),
        )


class DirectBBH(BBH):
    """BBH's protocol ``direct``: an example's answer is what its statement ends in, and the whole text is the answer."""

    def worked(self, task: Task) -> str:
        """Returns a task's examples without their reasoning; the full stop behind an answer stays."""
        return "\n\n".join(map(_without_reasoning, task.examples.split("\n\n")))

    def grade(self, target: str, text: str) -> tuple[Grade, ...]:
        """Returns the same grades as with chain of thought; a text without a statement counts as an answer."""
        found = stated_answer(text)
        if found is not None or not text.strip():
            return self.graded(target, text, found)
        return tuple(dataclasses.replace(one, answer=text.strip(), answered=True) for one in self.graded(target, text, None))


def stated_answer(text: str) -> str | None:
    r"""Returns what stands between the first ``the answer is`` and the next full stop on its line; ``None`` if there is none.

    The rule is open-instruct's ``[t|T]he answer is (.*?)\.`` (``run_eval.py`` l.159-164), in one pass over the text: on a line
    without a full stop behind its first statement no later statement has one either.
    """
    for line in text.split("\n"):
        if (begun := _STATED.search(line)) and (end := line.find(".", begun.end())) >= 0:
            return line[begun.end() : end].strip()
    return None


def read_tasks(folder: Path) -> list[Task]:
    """Returns a folder's tasks in alphabetic order; raises DataError if tasks or examples are missing, or cannot be read."""
    names = sorted(path.stem for path in (folder / "bbh").glob("*.json"))
    if not names:
        raise DataError(folder, f"is not {SOURCE}")
    return [
        Task(
            name,
            _worked_examples(folder / "cot-prompts" / f"{name}.txt"),
            tuple((one.input, one.target) for one in files.read_as(folder / "bbh" / f"{name}.json", _TaskFile).examples),
        )
        for name in names
    ]


def _worked_examples(path: Path) -> str:
    """Returns a file's text without its first two lines, a canary and a rule."""
    return "\n".join(files.read_text(path).replace("\r\n", "\n").split("\n")[2:]).strip()


def _without_reasoning(block: str) -> str:
    if not block.startswith("Q:"):
        return block
    return f"{block.partition(chr(10) + 'A:')[0].strip()}\nA: {block.rpartition(STATEMENT)[2].strip()}"


def check_tasks(tasks: Sequence[Task], data: Path) -> None:
    """Raises DataError if the tasks are not BBH's with all their texts, because published numbers are then of other items."""
    texts = [text for one in tasks for text in (one.name, one.examples, *(part for pair in one.items for part in pair))]
    if hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest() == DATA_SHA256:
        return
    count = sum(len(one.items) for one in tasks)
    what = "other texts than the" if (len(tasks), count) == (TASKS, SIZE) else f"{len(tasks)} tasks with {count} items, not the"
    raise DataError(data, f"has {what} {TASKS} tasks with {SIZE} items of BBH; take {SOURCE}")


def sorted_draw(tasks: Sequence[Task]) -> list[list[int]]:
    """Returns the places of 40 items per task: ``random.seed(42)``, then one sample per task in this order."""
    draws = random.Random(SEED)  # noqa: S311 - the recipe's own generator
    return [draws.sample(range(len(task.items)), PER_TASK) for task in tasks]
