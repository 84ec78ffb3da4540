r"""HumanEval: 164 Python functions to complete, graded by running their tests, as open-instruct measured the Tulu suite.

Sources: OpenAI's data (arXiv 2107.03374, openai/human-eval @ 6d43fb98); the recipe of allenai/open-instruct @ 3c335be7,
``eval/codex_humaneval/run_eval.py``. One raw row of the data, with its prompt cut::

    {"task_id": "HumanEval/0", "prompt": "...def has_close_elements(...) -> bool:\n    \"\"\" Check if in given list of ...",
     "entry_point": "has_close_elements", "test": "...def check(candidate):\n    assert candidate([1.0, ...], 0.3)..."}

The published numbers were made without a chat template, for chat models too: the prompt is the row's ``prompt`` and nothing
else. open-instruct has two chat forms besides, which end in ``<|assistant|>`` and a beginning of the answer. With the
instruction of HumanEvalPack, which follows from the row by a rule that gives all 164::

    <|user|>
    Write a Python function `has_close_elements(...) -> bool` to solve the following problem:
    Check if in given list of numbers, ...
    <|assistant|>
    Here is the function:

    ```python
    (the row's prompt)

and without it ``Complete the following python function.``, three newlines and the row's prompt, after which the answer begins
with ``Here is the completed function:`` and three newlines; there the model writes the whole function anew.

An answer is right if the program ``prompt + answer + "\n" + test + "\n" + check(entry_point)`` runs to its end. It runs in a
sandbox of its own (:mod:`tulu_eval.sandbox`), with numpy, and with 3 s of CPU time; the original has 3 s of a clock, and
instead of a sandbox takes some dangerous functions away.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import msgspec

from tulu_eval import files
from tulu_eval.benchmarks.base import Aggregate, Benchmark, Item, PassAt, Prompt, Protocol, file_of_hub, read_rows
from tulu_eval.benchmarks.executed import ExecutedBenchmark
from tulu_eval.errors import DataError
from tulu_eval.records import Decoding
from tulu_eval.sandbox import Limits

HUB_ID, HUB_FILE = "openai/openai_humaneval", "openai_humaneval/test-00000-of-00001.parquet"
HUB_REVISION = "7dce6050a7d6d172f3cc5c32aa97f52fa1a2e544"
ADVICE = "give the file with --data HumanEval.jsonl.gz (github.com/openai/human-eval, data)"

SIZE = 164

ROWS_SHA256 = "62536585d066e0aac3bade96b337bed8051182a6938fb201c9c326e6214399b0"
"""Hash of the ids, prompts, tests and entry points of ``HumanEval.jsonl.gz`` (sha256 b796127e...) in their order."""

STOP = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
"""The strings at which the Codex paper ends an answer (``run_eval.py`` l.30)."""

FENCE = "\n```"
"""One more stop, where the answer begins inside of a fence (``run_eval.py`` l.43)."""

LENGTH, TOP_P, SAMPLES = 512, 0.95, 20
PASS_AT_1 = Decoding(max_new_tokens=LENGTH, temperature=0.1, top_p=TOP_P, stop=STOP)
PASS_AT_10 = Decoding(max_new_tokens=LENGTH, temperature=0.8, top_p=TOP_P, stop=STOP)
"""Decoding of 20 samples per item, whose pass@1 and pass@10 open-instruct reports (``submit_eval_jobs.py``,
``collect_eval_results.py`` l.91-105)."""

LIMITS = Limits(seconds=3)
"""``execution.py``'s default ``timeout``."""

PACK, COMPLETE = "Write a Python function `", "Complete the following python function.\n\n\n"


class Exercise(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the program of an answer consists of, besides the answer.

    Attributes:
        prompt: What the answer continues.
        test: Defines ``check``.
        entry: Name of the function that ``check`` is called with.
    """

    prompt: str
    test: str
    entry: str


def _greedy(name: str, summary: str, n: int, constant: str, extra: tuple[str, ...] = ()) -> Protocol:
    decoding = Decoding(max_new_tokens=LENGTH, stop=STOP + extra)
    prompt_id = hashlib.sha256(constant.encode()).hexdigest()[:8]
    return Protocol(name, summary, n, decoding, decoding, "pass@1", prompt_id, (name,))


def _sampled(name: str, decoding: Decoding, metric: str) -> Protocol:
    summary = f"the 164 prompts without a chat template, {SAMPLES} samples at temperature {decoding.temperature:g}"
    prompt_id = hashlib.sha256(b"").hexdigest()[:8]
    return Protocol(name, summary, SIZE, decoding, decoding, metric, prompt_id, (name,), samples=SAMPLES)


class HumanEval(ExecutedBenchmark):
    """HumanEval in the form of the published numbers; see the module's docstring for one item and its prompts."""

    name: ClassVar[str] = "humaneval"
    scorers: ClassVar[tuple[str, ...]] = ("tests",)
    limits: ClassVar[Limits] = LIMITS
    raw: ClassVar[bool] = True
    constant: ClassVar[str] = ""
    protocols: ClassVar[Mapping[str, Protocol]] = MappingProxyType(
        {
            "card-pass10": _sampled("card-pass10", PASS_AT_10, "pass@10"),
            "pass1-of-20": _sampled("pass1-of-20", PASS_AT_1, "pass@1"),
            "greedy": _greedy("greedy", "the 164 prompts without a chat template, one greedy answer", SIZE, ""),
            "greedy-pack": _greedy("greedy-pack", "the 164 as HumanEvalPack instructs a chat model", SIZE, PACK, (FENCE,)),
            "greedy-chat": _greedy("greedy-chat", "the 164 with open-instruct's own instruction", SIZE, COMPLETE),
            "custom": _greedy("custom", "the form without a chat template on the rows of --data", 0, ""),
        }
    )

    def under(self, protocol: str) -> Benchmark:
        """Returns the benchmark with the prompts of a chat form, else itself."""
        own = {
            "card-pass10": TenHumanEval,
            "pass1-of-20": OneHumanEval,
            "greedy-pack": PackHumanEval,
            "greedy-chat": ChatHumanEval,
        }
        return own.get(protocol, HumanEval)()

    def load(self, protocol: Protocol, data: Path | None) -> list[Item]:
        """Returns the items in the file's order; a target is the item's :class:`Exercise` as JSON."""
        custom = protocol.name == "custom"
        if custom and data is None:
            raise DataError("--protocol custom", "needs --data FILE")
        items = read_items(data or file_of_hub(HUB_ID, HUB_FILE, HUB_REVISION, ADVICE))
        if not custom:
            check_items(items, data)
        return items

    def render(self, item: Item) -> Prompt:
        """Returns the row's prompt alone, in both forms; a chat model gets the plain one too."""
        return Prompt(user=item.question, prefill="", plain=item.question)

    def constant_prompt(self) -> str:
        """Returns the text with which every prompt begins."""
        return self.constant

    def program(self, target: str, text: str) -> str:
        """Returns the row's prompt, the answer and the row's test, see :func:`program`."""
        return program(target, text)


class TenHumanEval(HumanEval):
    """HumanEval with 20 samples per item at temperature 0.8; pass@10 is what the cards print."""

    scorers: ClassVar[tuple[str, ...]] = ("pass@10", "pass@1")
    aggregates: ClassVar[Mapping[str, Aggregate]] = MappingProxyType({"pass@10": PassAt(10), "pass@1": PassAt(1)})
    metrics: ClassVar[Mapping[str, str]] = MappingProxyType({"pass@10": "pass@10", "pass@1": "pass@1"})


class OneHumanEval(TenHumanEval):
    """HumanEval with 20 samples per item at temperature 0.1, for pass@1."""

    scorers: ClassVar[tuple[str, ...]] = ("pass@1", "pass@10")


class PackHumanEval(HumanEval):
    """HumanEval's chat form with HumanEvalPack's instruction."""

    raw: ClassVar[bool] = False
    constant: ClassVar[str] = PACK

    def render(self, item: Item) -> Prompt:
        """Returns the instruction, and the row's prompt as the beginning of the answer; the prompt alone in the plain form."""
        prefill = f"Here is the function:\n\n```python\n{item.question}"
        return Prompt(user=instruction(task(item.target)), prefill=prefill, plain=item.question)


class ChatHumanEval(HumanEval):
    """HumanEval's chat form where HumanEvalPack's file is not at hand."""

    raw: ClassVar[bool] = False
    constant: ClassVar[str] = COMPLETE

    def render(self, item: Item) -> Prompt:
        """Returns the instruction with the row's prompt; the prompt alone in the plain form."""
        return Prompt(COMPLETE + item.question, "Here is the completed function:\n\n\n", item.question)


def task(target: str) -> Exercise:
    """Returns an item's task; raises DataError if the target is not one."""
    return files.decode(target, Exercise, files.Place("an item's task"))


def program(target: str, text: str) -> str:
    """Returns the program that runs to its end if the answer is right (``execution.py``, ``check_correctness``)."""
    given = task(target)
    return f"{given.prompt}{text}\n{given.test}\ncheck({given.entry})"


def instruction(given: Exercise) -> str:
    """Returns the instruction that HumanEvalPack's file has for a task: its function's head, its docstring without indentation.

    bigcode-project/octopack @ e17a8f64, ``evaluation/create/humaneval-x``: equal for all 164, an ``import`` that stands before
    the docstring of one included.
    """
    head, quotes, documentation = re.split(r"(\"\"\"|''')", given.prompt.rpartition(f"def {given.entry}(")[2], maxsplit=1)
    lines = map(str.strip, documentation.strip().removesuffix(quotes).split("\n"))
    signature = f"{given.entry}({head}".strip().removesuffix(":")
    return f"{PACK}{signature}` to solve the following problem:\n" + "\n".join(filter(None, lines))


def read_items(path: Path) -> list[Item]:
    """Returns the items of a file in its order; raises DataError if a row lacks a field, or its entry point is no name."""
    items = []
    for row in read_rows(path, ("task_id", "prompt", "test", "entry_point")):
        prompt, entry = row.text("prompt"), row.text("entry_point")
        if not entry.isidentifier():
            raise row.error("field 'entry_point' is no name of a function")
        items.append(Item(row.text("task_id"), prompt, written(Exercise(prompt, row.text("test"), entry))))
    return items


def written(given: Exercise) -> str:
    """Returns an item's target."""
    return json.dumps(msgspec.to_builtins(given), sort_keys=True, separators=(",", ":"))


def check_items(items: list[Item], data: Path | None) -> None:
    """Raises DataError if the items are not the 164 in their order, because published numbers are then of other items."""
    text = "\n".join(f"{item.id}\n{item.target}" for item in items)
    if hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() == ROWS_SHA256:
        return
    what = "other prompts, tests or order than those" if len(items) == SIZE else f"{len(items)} rows, not the {SIZE}"
    hint = "; --protocol custom runs the recipe on it" if data else "; give the file with --data HumanEval.jsonl.gz"
    raise DataError(data or HUB_ID, f"{what} of HumanEval, so no published protocol applies{hint}")
