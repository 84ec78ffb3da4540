"""The interface of a benchmark: a name, frozen protocols, and four small methods.

A third-party package adds a benchmark through the entry point group ``tulu_eval.benchmarks``. The entry's name is the name for
``tulu-eval run``; its value is a subclass of :class:`Benchmark`. Benchmarks are pure: they load their data, and never see a
model, a tokenizer or a device.
"""

from __future__ import annotations

import abc
import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from tulu_eval import files, hub
from tulu_eval.errors import PreflightError, UnknownName
from tulu_eval.records import STATUSES, Completion, Decoding, Grade, Kind, Status, Turn, content_hash
from tulu_eval.sandbox import Execution

if TYPE_CHECKING:
    from tulu_eval.benchmarks.hypothesis import Hypothesis


class PassAt(NamedTuple):
    """The probability that at least one of ``k`` samples of an item is right."""

    k: int


Aggregate = Literal["ratio", "macro", "part"] | PassAt
"""How scores become a value if it is not the share of right items. ``ratio``: the sum of score times weight, over the sum of
weights. ``macro``: the mean over groups of each group's ratio. ``part``: the share of right items among those whose grade has
the weight 1; the row has no others, which have the weight 0. :class:`PassAt`: the mean over items of an unbiased estimate from
all samples of the item. Else an item with several samples counts with their mean."""


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """One question of a benchmark.

    Attributes:
        id: Stable name within the benchmark, e.g. ``test-1309``.
        target: The right answer; empty if there is none and a judge decides.
        group: Name of the group in a macro mean, e.g. a subject; empty if the benchmark has no groups.
    """

    id: str
    question: str
    target: str = ""
    group: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Prompt:
    """One request before a model's template is applied.

    Attributes:
        user: Content of the last turn, which the user speaks.
        prefill: Start of the assistant's answer; a space precedes it unless the template ends in a newline. Empty for none.
        plain: The whole prompt for a base model, which has no template.
        earlier: Turns before the last one: a system prompt, examples as pairs of user and assistant. Empty for none.
    """

    user: str
    prefill: str
    plain: str
    earlier: tuple[Turn, ...] = ()

    @property
    def turns(self) -> tuple[Turn, ...]:
        """All turns in order."""
        return (*self.earlier, Turn("user", self.user))


class Reasoning(NamedTuple):
    """The tags around a block of reasoning at the start of an answer, e.g. ``<think>`` and ``</think>``."""

    opening: str
    closing: str

    def cut(self, text: str, *, opened: bool) -> str | None:
        """Returns what follows the block; ``None`` for a block without an end, the text itself if there is no block.

        ``opened`` tells whether the prompt ends inside a block, so that the answer has no opening tag.
        """
        _, closed, rest = text.rpartition(self.closing)
        if closed:
            return rest
        return None if opened or text.lstrip().startswith(self.opening) else text


@dataclasses.dataclass(frozen=True, slots=True)
class Protocol:
    """A frozen recipe: the items, and everything that can change a completion or its grade.

    Attributes:
        name: Name for ``--protocol``.
        summary: One line for people.
        n: Number of items; 0 if the data decides.
        decoding: Decoding of models with a chat template.
        plain_decoding: Decoding of base models, which have no template.
        metric: Name of the averaged score.
        prompt_id: First 8 hex digits of the sha256 of the prompt's constant part.
        covers: Names of the protocols whose items this one contains, itself included; each gets its own row.
        samples: Number of samples per item, each with a seed of its own.
        reasoning: Tags of a block that is cut from an answer before it is graded; ``None`` to grade the whole answer.
        longest_prompt: Largest number of tokens of a prompt, without those that the tokenizer itself puts in front; a longer
            prompt is made again from the item that :meth:`Benchmark.shorter` gives. 0 for any number.
        longest_passage: Largest number of tokens of a passage; a longer one is cut and decoded again before its item is
            rendered (:meth:`Benchmark.with_passages`). 0 for any number.
    """

    name: str
    summary: str
    n: int
    decoding: Decoding
    plain_decoding: Decoding
    metric: str
    prompt_id: str
    covers: tuple[str, ...]
    samples: int = 1
    reasoning: Reasoning | None = None
    longest_prompt: int = 0
    longest_passage: int = 0


class Benchmark(abc.ABC):
    """A benchmark: load items, render a prompt, grade a completion, aggregate scores.

    Attributes:
        name: Name for ``tulu-eval run``.
        kind: What the model is asked; see :mod:`tulu_eval.benchmarks.likelihood` for the kinds that generate nothing.
        protocols: Protocols by name; the first is the default.
        scorers: Names of the scorers in order; the first gave the published numbers.
        aggregates: How a scorer's scores become its value. A scorer that is not named grades items as right or wrong: its value
            is :meth:`aggregate` of the scores without weights, with an interval for a share of items.
        metrics: A scorer's name of its value where it is not the protocol's ``metric``.
        version: An integer that rises when a prompt or a grade can differ from before.
        aliases: Earlier names of protocols, by earlier name: runs that have one, and ``--protocol``, mean today's.
        publishable: Whether a run's samples may be published. If not, the run also writes their hashes, which may be.
        executes: Whether grading runs programs that a model wrote. Samples are then graded by :meth:`grade_all`, once.
        raw: Whether every model gets the plain form of the prompts, one with a chat template too.
        extra: Extra of this package that it needs; empty for none.
    """

    name: ClassVar[str]
    kind: ClassVar[Kind] = "generate"
    protocols: ClassVar[Mapping[str, Protocol]]
    scorers: ClassVar[tuple[str, ...]]
    aggregates: ClassVar[Mapping[str, Aggregate]] = MappingProxyType({})
    metrics: ClassVar[Mapping[str, str]] = MappingProxyType({})
    version: ClassVar[int] = 1
    aliases: ClassVar[Mapping[str, str]] = MappingProxyType({})
    publishable: ClassVar[bool] = True
    executes: ClassVar[bool] = False
    raw: ClassVar[bool] = False
    extra: ClassVar[str] = ""

    @abc.abstractmethod
    def load(self, protocol: Protocol, data: Path | None) -> list[Item]:
        """Returns the protocol's items in the order of the run.

        ``data`` replaces the default source: a file of rows, or a folder if that is several files; ``None`` for the default.

        Raises:
            DataError: If the data does not match the protocol.
        """

    def training_items(self, data: Path | None) -> list[Item]:
        """Returns items to train on, which are not those that measure: the rows of ``data``, else the training split.

        Raises:
            PreflightError: If ``data`` is ``None`` and the benchmark has no training split here.
            DataError: If the data cannot be read, or is what the benchmark measures with.
        """
        if data is None:
            raise PreflightError(f"{self.name} has no training split here; give rows of its form with --data FILE")
        return self.load(self.protocols.get("custom", self.protocol(None)), data)

    @abc.abstractmethod
    def render(self, item: Item) -> Prompt:
        """Returns the prompt for an item."""

    def with_passages(self, item: Item, cut: Callable[[str], str]) -> Item:
        """Returns an item whose passages are as ``cut`` returns them; the item itself if the benchmark has no passages."""
        return item

    def shorter(self, item: Item) -> Item | None:
        """Returns the item with a shorter prompt, e.g. with one example less; ``None`` if its prompt cannot be shorter."""
        return None

    def forms(self, item: Item) -> Iterator[Item]:
        """Yields an item, and after it the item with ever shorter prompts."""
        form: Item | None = item
        while form is not None:
            yield form
            form = self.shorter(form)

    @abc.abstractmethod
    def grade(self, target: str, text: str) -> tuple[Grade, ...]:
        """Returns one grade per scorer, in the order of ``scorers``."""

    def grade_failed(self, target: str) -> tuple[Grade, ...]:
        """Returns the grades of an item on which the engine failed: those of an empty text, but wrong.

        A benchmark overrides this if a grade's weight depends on the text. A failure's weight is then the largest one, so that
        the interval from wrong to right spans whatever the text would have been.
        """
        return tuple(dataclasses.replace(grade, score=0.0) for grade in self.grade(target, ""))

    def grade_all(
        self,
        answers: Iterable[tuple[str, str]],
        execution: Execution = Execution(),  # noqa: B008 - frozen
    ) -> Iterator[tuple[Grade, ...]]:
        """Yields grades of answers, targets and texts, in their order; ``execution`` is for benchmarks that run programs."""
        for target, text in answers:
            yield self.grade(target, text)

    def scores_of_class(self, status: str) -> tuple[float, ...] | None:
        """Returns each scorer's score if a sample's class alone decides it; ``None`` if the text decides."""
        return None

    def constant_prompt(self) -> str:
        """Returns the text that precedes the item in every prompt; its hash is the protocols' ``prompt_id``."""
        return ""

    def aggregate(self, scores: Sequence[float]) -> float:
        """Returns the metric in percent: the mean, unless a benchmark overrides this."""
        return 100.0 * sum(scores) / len(scores)

    def export(self, answers: Iterable[tuple[Item, str]], model: str) -> dict[str, str]:
        """Returns the contents of extra files for other tools, by file name; none unless a benchmark overrides this.

        ``answers`` are items with their completions' texts, in the protocol's order, without items on which the engine failed.
        """
        return {}

    def protocol(self, name: str | None) -> Protocol:
        """Returns a protocol by name, the default for ``None``; raises UnknownName if there is no such protocol."""
        if name is None:
            return next(iter(self.protocols.values()))
        today = self.aliases.get(name, name)
        if today not in self.protocols:
            raise UnknownName(f"protocol of {self.name}", name, self.protocols)
        return self.protocols[today]

    def under(self, protocol: str) -> Benchmark:
        """Returns the benchmark with a protocol's own prompts and scorers: itself, unless a benchmark overrides this."""
        return self

    def hypotheses(self, protocol: Protocol) -> tuple[Hypothesis, ...]:
        """Returns what ``tulu-eval explain`` tries on a protocol; those that hold for any benchmark, unless one has more."""
        from tulu_eval.benchmarks.common_hypotheses import common

        return common(protocol) if self.kind == "generate" else ()

    def members(self, protocol: Protocol, items: Sequence[Item]) -> dict[str, tuple[str, ...]]:
        """Returns the ids of the items of each protocol that ``protocol`` covers, by protocol name.

        The items of a covered protocol are the first ``n`` of the items that :meth:`load` returns.
        """
        sizes = {name: self.protocols[name].n or len(items) for name in protocol.covers}
        return {name: tuple(item.id for item in items[:size]) for name, size in sizes.items()}


def classify(completion: Completion, grades: Sequence[Grade], *, reasoned: bool = True) -> Status:
    """Returns the class of a sample: the first that applies, in the order of the code below.

    ``reasoned`` tells whether the answer has come to the end of its reasoning, if it has any.
    """
    if completion.finish_reason == "error":
        return "engine_error"
    if not completion.text.strip() and not completion.likelihoods:
        return "empty"
    if not reasoned:
        return "unfinished_reasoning"
    if completion.finish_reason == "length":
        return "truncated"
    if grades and not grades[0].answered:
        return "no_answer"
    return "ok"


def count_statuses(statuses: Iterable[str]) -> dict[str, int]:
    """Returns the number of samples in every class, including classes with 0; the reasoning's only if it is not 0."""
    seen = Counter(statuses)
    return {status: seen.get(status, 0) for status in STATUSES if status != "unfinished_reasoning" or seen[status]}


def protocol_fields(protocol: Protocol) -> dict[str, Any]:
    """Returns a protocol as JSON data; fields that later versions added are left out while they have their default."""
    fields, later = dataclasses.asdict(protocol), {"samples": 1, "reasoning": None, "longest_prompt": 0, "longest_passage": 0}
    return {name: value for name, value in fields.items() if name not in later or value != later[name]}


def subset_hash(ids: Iterable[str]) -> str:
    """Returns the first 8 hex digits of the sha256 of item ids joined by newlines."""
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()[:8]


def items_hash(items: Iterable[Item]) -> str:
    """Returns the sha256 (64 hex digits) of items with all that they hold; a group that is empty changes no hash."""
    found = [dataclasses.asdict(item) for item in items]
    return content_hash([{name: value for name, value in one.items() if name != "group" or value} for one in found])


def read_rows(path: Path, fields: Sequence[str]) -> list[files.Row]:
    """Returns the rows of a data file: JSON lines, a JSON list or parquet, packed or not.

    Every row must have the ``fields`` as texts that are not blank.

    Raises:
        DataError: If the file cannot be read, is empty, or a row lacks a field; the message names the line or row.
    """
    rows = list(files.json_rows(path, fields))
    for row in rows:
        for field in fields:
            if not row.text(field).strip():
                raise row.error(f"field {field!r} is empty")
    return rows


def file_of_hub(hub_id: str, name: str, revision: str | None, advice: str) -> Path:
    """Returns the path of a data set's file in the hub's cache; ``advice`` ends the PreflightError if it cannot be had."""
    try:
        return hub.dataset_file(hub_id, name, revision)
    except PreflightError as error:
        raise PreflightError(f"{error}; {advice}") from error


def read_json_lines(path: Path, fields: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the rows of :func:`read_rows` as plain objects; older plug-ins call the function by this name."""
    return [row.data for row in read_rows(path, fields)]
