r"""HumanEval+ and MBPP+: EvalPlus' stricter tests, as open-instruct measured them for the paper's coding category.

Sources: the data, ``HumanEvalPlus-OriginFmt.jsonl.gz`` v0.1.9 of github.com/evalplus/humanevalplus_release, and the test split
of evalplus/mbppplus on the hub (arXiv 2305.01210, Apache-2.0); the recipe, allenai/open-instruct @ b6737f62 (branch
``mbpp_humaneval_plus``), ``eval/codex_humaneval/run_eval.py``, ``eval/mbpp/run_eval.py`` and ``scripts/submit_eval_jobs.py``.
Neither file could be had here, so there is no hash of them: their number of rows is held, and the hash of its items is part of
a run's identity. Which k of pass@k went into the paper's category is not recorded; no published cell is of either benchmark.

HumanEval+ has HumanEval's rows with more tests, and both of open-instruct's chat forms, each with a fence::

    <|user|>
    Complete the following python function.


    (the row's prompt)
    <|assistant|>
    Here is the completed function:


    ```python

for temperature 0.1; for 0.8 the instruction of HumanEvalPack (:mod:`tulu_eval.benchmarks.humaneval`), whose file the launcher
names by a path that may not have been there: ``pass10-plain`` is that case. MBPP+ has the first form with the row's ``prompt``
and its ``code`` up to the first colon; the first 100 rows are left out, and the shuffle before them had no effect. Its program
is the answer and the row's ``test`` alone, so an answer that does not begin with the function's head fails.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from tulu_eval import files
from tulu_eval.benchmarks.base import Aggregate, Benchmark, Item, PassAt, Prompt, Protocol, read_rows
from tulu_eval.benchmarks.executed import ExecutedBenchmark
from tulu_eval.benchmarks.humaneval import (
    COMPLETE,
    FENCE,
    LENGTH,
    PACK,
    SAMPLES,
    SIZE,
    STOP,
    TOP_P,
    PackHumanEval,
    TenHumanEval,
    read_items,
)
from tulu_eval.errors import DataError, PreflightError
from tulu_eval.records import Decoding
from tulu_eval.sandbox import Limits

OPENING = "Here is the completed function:\n\n\n```python\n"

MBPP_ROWS, MBPP_FIRST = 378, 100
"""Rows of the file, and the number of those that are left out (``eval/mbpp/run_eval.py`` l.25-33)."""

MBPP_LIMITS = Limits(seconds=10)
"""``eval/mbpp/run_eval.py``, ``timeout=10.0``; the original's seconds are of a clock."""

HUMANEVAL_SOURCE = "HumanEvalPlus-OriginFmt.jsonl.gz v0.1.9 of github.com/evalplus/humanevalplus_release"
MBPP_SOURCE = "the test split of huggingface.co/datasets/evalplus/mbppplus, as parquet or JSON lines"
AT: Mapping[str, Aggregate] = MappingProxyType({f"pass@{k}": PassAt(k) for k in (1, 5, 10, 20)})
METRICS: Mapping[str, str] = MappingProxyType({name: name for name in AT})


def _protocol(name: str, n: int, temperature: float, top_p: float, stop: tuple[str, ...], constant: str) -> Protocol:
    decoding = Decoding(max_new_tokens=LENGTH, temperature=temperature, top_p=top_p, stop=stop)
    summary = f"{n} functions, {SAMPLES} samples at temperature {temperature:g}"
    prompt_id = hashlib.sha256(constant.encode()).hexdigest()[:8]
    metric = "pass@1" if name == "pass1" else "pass@10"
    return Protocol(name, summary, n, decoding, decoding, metric, prompt_id, (name,), samples=SAMPLES)


class HumanEvalPlus(TenHumanEval):
    """HumanEval+; see the module's docstring for its prompts."""

    name: ClassVar[str] = "humaneval-plus"
    raw: ClassVar[bool] = False
    scorers: ClassVar[tuple[str, ...]] = ("pass@10", "pass@1", "pass@5", "pass@20")
    aggregates: ClassVar[Mapping[str, Aggregate]] = AT
    metrics: ClassVar[Mapping[str, str]] = METRICS
    constant: ClassVar[str] = COMPLETE
    protocols: ClassVar[Mapping[str, Protocol]] = MappingProxyType(
        {
            "pass10": _protocol("pass10", SIZE, 0.8, TOP_P, (*STOP, FENCE), PACK),
            "pass10-plain": _protocol("pass10-plain", SIZE, 0.8, TOP_P, (*STOP, FENCE), COMPLETE),
            "pass1": _protocol("pass1", SIZE, 0.1, TOP_P, (*STOP, FENCE), COMPLETE),
        }
    )

    def under(self, protocol: str) -> Benchmark:
        """Returns the benchmark with HumanEvalPack's instruction, or with the published value of the temperature first."""
        return {"pass10": PackHumanEvalPlus, "pass1": OneHumanEvalPlus}.get(protocol, HumanEvalPlus)()

    def load(self, protocol: Protocol, data: Path | None) -> list[Item]:
        """Returns the items in the file's order.

        Raises:
            PreflightError: If no file is given.
            DataError: If the file does not have 164 rows of HumanEval's form.
        """
        if data is None:
            raise PreflightError(f"{self.name} needs --data FILE: {HUMANEVAL_SOURCE}")
        items = read_items(data)
        if len(items) != SIZE:
            raise DataError(data, f"has {len(items)} rows, not the {SIZE} of HumanEval+; take {HUMANEVAL_SOURCE}")
        return items

    def render(self, item: Item) -> Prompt:
        """Returns the instruction with the row's prompt, and a fence as the answer's beginning; the prompt in plain form."""
        return Prompt(COMPLETE + item.question, OPENING, item.question)


class OneHumanEvalPlus(HumanEvalPlus):
    """HumanEval+ at temperature 0.1, whose value is pass@1."""

    scorers: ClassVar[tuple[str, ...]] = ("pass@1", "pass@5", "pass@10", "pass@20")


class PackHumanEvalPlus(HumanEvalPlus):
    """HumanEval+ with HumanEvalPack's instruction, made from the row by the rule that gives the pack's 164."""

    constant: ClassVar[str] = PACK

    def render(self, item: Item) -> Prompt:
        """Returns the prompt of :class:`tulu_eval.benchmarks.humaneval.PackHumanEval`."""
        return PackHumanEval().render(item)


class MBPPPlus(ExecutedBenchmark):
    """MBPP+; see the module's docstring for its prompt."""

    name: ClassVar[str] = "mbpp-plus"
    limits: ClassVar[Limits] = MBPP_LIMITS
    scorers: ClassVar[tuple[str, ...]] = HumanEvalPlus.scorers
    aggregates: ClassVar[Mapping[str, Aggregate]] = AT
    metrics: ClassVar[Mapping[str, str]] = METRICS
    protocols: ClassVar[Mapping[str, Protocol]] = MappingProxyType(
        {
            "pass10": _protocol("pass10", MBPP_ROWS - MBPP_FIRST, 0.8, 1.0, ("```",), COMPLETE),
            "pass1": _protocol("pass1", MBPP_ROWS - MBPP_FIRST, 0.1, 1.0, ("```",), COMPLETE),
        }
    )

    def under(self, protocol: str) -> Benchmark:
        """Returns the benchmark with the published value of the temperature first."""
        return OneMBPPPlus() if protocol == "pass1" else MBPPPlus()

    def load(self, protocol: Protocol, data: Path | None) -> list[Item]:
        """Returns all rows but the first 100, in the file's order; a target is the item's test.

        Raises:
            PreflightError: If no file is given.
            DataError: If the file does not have 378 rows of MBPP+'s form.
        """
        if data is None:
            raise PreflightError(f"{self.name} needs --data FILE: {MBPP_SOURCE}")
        rows = read_rows(data, ("prompt", "code", "test"))
        if len(rows) != MBPP_ROWS:
            raise DataError(data, f"has {len(rows)} rows, not the {MBPP_ROWS} of MBPP+; take {MBPP_SOURCE}")
        return [
            Item(f"Mbpp/{place}", row.text("prompt") + row.text("code").split(":")[0], json.dumps(row.text("test")))
            for place, row in enumerate(rows)
        ][MBPP_FIRST:]

    def render(self, item: Item) -> Prompt:
        """Returns the instruction with the task and the function's head, and a fence as the answer's beginning."""
        return Prompt(COMPLETE + item.question, OPENING, item.question)

    def constant_prompt(self) -> str:
        """Returns the instruction."""
        return COMPLETE

    def program(self, target: str, text: str) -> str:
        """Returns the answer and the row's test."""
        test = files.decode(target, str, files.Place("an item's test"))
        return f"{text}\n{test}"


class OneMBPPPlus(MBPPPlus):
    """MBPP+ at temperature 0.1, whose value is pass@1."""

    scorers: ClassVar[tuple[str, ...]] = OneHumanEvalPlus.scorers
