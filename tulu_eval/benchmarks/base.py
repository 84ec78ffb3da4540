"""What a benchmark is: a name, frozen protocols, and four small methods.

A third-party package adds one through the entry point group ``tulu_eval.benchmarks``: the entry's name is what
``tulu-eval run`` takes, its value a subclass of :class:`Benchmark`. Benchmarks are pure: they load their data, and never
see a model, a tokenizer or a device.
"""

from __future__ import annotations

import abc
import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from tulu_eval import files
from tulu_eval.errors import UnknownName
from tulu_eval.records import STATUSES, Completion, Decoding, Grade, Status


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """One question of a benchmark.

    Attributes:
        id: Stable name within the benchmark, e.g. ``test-1309``.
        question: What is asked.
        target: The right answer; empty where there is none (a judge decides).
    """

    id: str
    question: str
    target: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Prompt:
    """One request before a model's template is applied.

    Attributes:
        user: Content of the single user turn.
        prefill: What the assistant's turn starts with; a space goes before it unless the template ends in a newline.
        plain: The whole prompt for a base model, which has no template.
    """

    user: str
    prefill: str
    plain: str


@dataclasses.dataclass(frozen=True, slots=True)
class Protocol:
    """A frozen recipe: which items, and everything that can change a completion or its grade.

    Attributes:
        name: What ``--protocol`` takes.
        summary: One line for people.
        n: Number of items; 0 where the data decides.
        decoding: For models with a chat template.
        plain_decoding: For base models.
        metric: What is averaged.
        prompt_id: First 8 hex digits of the hash of the constant part of the prompt.
        covers: Names of the protocols whose items this one contains, itself included; each gets its own row.
    """

    name: str
    summary: str
    n: int
    decoding: Decoding
    plain_decoding: Decoding
    metric: str
    prompt_id: str
    covers: tuple[str, ...]


class Benchmark(abc.ABC):
    """A benchmark: load items, render a prompt, grade a completion, aggregate scores.

    Attributes:
        name: What ``tulu-eval run`` takes.
        protocols: By name; the first is the default.
        scorers: Names in order; the first made the published numbers.
        version: Goes up when a prompt or a grade can differ from before.
        publishable: Whether a run's samples may be published; where not, hashes of them are written beside, which may.
    """

    name: ClassVar[str]
    protocols: ClassVar[Mapping[str, Protocol]]
    scorers: ClassVar[tuple[str, ...]]
    version: ClassVar[int] = 1
    publishable: ClassVar[bool] = True

    @abc.abstractmethod
    def load(self, protocol: Protocol, data: Path | None) -> list[Item]:
        """Returns the protocol's items in the order in which they are to run.

        Args:
            protocol: One of ``protocols``.
            data: A file of rows to read instead of the default source.

        Raises:
            DataError: The data is not what the protocol asks for.
        """

    @abc.abstractmethod
    def render(self, item: Item) -> Prompt:
        """Returns the prompt for an item."""

    @abc.abstractmethod
    def grade(self, target: str, text: str) -> tuple[Grade, ...]:
        """Returns one grade a scorer, in the order of ``scorers``."""

    def scores_of_class(self, status: str) -> tuple[float, ...] | None:
        """Returns each scorer's score of a sample of a class, where the class alone decides it; None where the text does."""
        return None

    def constant_prompt(self) -> str:
        """Returns what is the same in every prompt and goes before the item; its hash is the protocols' ``prompt_id``."""
        return ""

    def aggregate(self, scores: Sequence[float]) -> float:
        """Returns the metric in percent; the mean unless a benchmark says otherwise."""
        return 100.0 * sum(scores) / len(scores)

    def export(self, answers: Iterable[tuple[Item, str]], model: str) -> dict[str, str]:
        """Returns the contents of files for other tools, by name, that go beside the result; none unless a benchmark says so.

        Args:
            answers: Items in the protocol's order with their completions' texts; those that the engine failed on are left out.
            model: Its name.
        """
        return {}

    def protocol(self, name: str | None) -> Protocol:
        """Returns a protocol by name, the default for ``None``.

        Raises:
            UnknownName: There is no such protocol.
        """
        if name is None:
            return next(iter(self.protocols.values()))
        if name not in self.protocols:
            raise UnknownName(f"protocol of {self.name}", name, self.protocols)
        return self.protocols[name]

    def members(self, protocol: Protocol, items: Sequence[Item]) -> dict[str, tuple[str, ...]]:
        """Returns, for each protocol that ``protocol`` covers, the ids of its items.

        A covered protocol's items are the first ``n`` of the order that :meth:`load` returns.
        """
        sizes = {name: self.protocols[name].n or len(items) for name in protocol.covers}
        return {name: tuple(item.id for item in items[:size]) for name, size in sizes.items()}


def classify(completion: Completion, grades: Sequence[Grade]) -> Status:
    """Returns the one class a sample falls in; the first that applies, in the order of the code below."""
    if completion.finish_reason == "error":
        return "engine_error"
    if not completion.text.strip():
        return "empty"
    if completion.finish_reason == "length":
        return "truncated"
    if grades and not grades[0].answered:
        return "no_answer"
    return "ok"


def count_statuses(statuses: Iterable[str]) -> dict[str, int]:
    """Returns the number of samples in every class, zeros included, so that no class is ever silent."""
    seen = Counter(statuses)
    return {status: seen.get(status, 0) for status in STATUSES}


def subset_hash(ids: Iterable[str]) -> str:
    """Returns the first 8 hex digits of the sha256 of item ids joined by newlines."""
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()[:8]


def read_rows(path: Path, fields: Sequence[str]) -> list[files.Row]:
    """Returns the rows of a data file: JSON lines, a JSON list or parquet, packed or not.

    Args:
        path: The file.
        fields: Fields every row must have, as texts that are not empty.

    Raises:
        DataError: The file cannot be read, is empty, or has a row that is not so; with its line or row.
    """
    rows = list(files.json_rows(path, fields))
    for row in rows:
        for field in fields:
            if not row.text(field).strip():
                raise row.error(f"field {field!r} is empty")
    return rows


def read_json_lines(path: Path, fields: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the rows of :func:`read_rows` as plain objects, under the name by which plug-ins of before ask for them."""
    return [row.data for row in read_rows(path, fields)]
