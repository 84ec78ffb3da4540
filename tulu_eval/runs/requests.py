"""Makes the requests of a plan from written prompts, in as many samples as the protocol draws."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import TypeVar

from tulu_eval.benchmarks.base import Benchmark, Item, PassAt, Protocol
from tulu_eval.benchmarks.likelihood import LikelihoodBenchmark
from tulu_eval.errors import PreflightError, UserError
from tulu_eval.logprobs import AnyRequest, ChoiceRequest, Continuation, ScoreRequest
from tulu_eval.models.base import ModelFiles
from tulu_eval.models.continuations import encode_continuations
from tulu_eval.models.prompt_form import text_hash
from tulu_eval.models.text_writer import TextWriter
from tulu_eval.records import Decoding, Request
from tulu_eval.runs.written import Writer, WrittenPrompts

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Planned:
    """One sample to make.

    Attributes:
        item: Item of the benchmark; if the protocol draws several samples, its id has the sample's number
            (:func:`sample_ids`).
        request: Two samples with the same prompt and number have equal ones.
        prompt_sha256: Hash of the prompt's text.
    """

    item: Item
    request: AnyRequest
    prompt_sha256: str


def sample_ids(item: str, samples: int) -> tuple[str, ...]:
    """Returns the ids of an item's samples: ``ITEM#1`` to ``ITEM#n``, or the item's own id for a single one."""
    return (item,) if samples == 1 else tuple(f"{item}#{number}" for number in range(1, samples + 1))


def item_of(sample: str, samples: int) -> str:
    """Returns the id of the item that a sample's id belongs to."""
    return sample if samples == 1 else sample.rpartition("#")[0]


def number_of(sample: str, samples: int) -> int:
    """Returns the number of a sample among its item's, 1 to ``samples``."""
    return 1 if samples == 1 else int(sample.rpartition("#")[2])


def check_recipe(benchmark: Benchmark, protocol: Protocol) -> None:
    """Checks that a third party's protocol can be run; needs no items.

    Raises:
        PreflightError: If several samples per item would all be equal, or the benchmark's kind has no continuations.
    """
    name = f"{benchmark.name}'s protocol {protocol.name}"
    decodings = (protocol.decoding, protocol.plain_decoding)
    if protocol.samples < 1:
        raise PreflightError(f"{name} has {protocol.samples} samples per item; it needs 1 or more")
    most = max((how.k for how in benchmark.aggregates.values() if isinstance(how, PassAt)), default=1)
    if most > protocol.samples:
        raise PreflightError(f"{name} has {protocol.samples} samples per item, and pass@{most} needs {most}")
    if protocol.samples > 1 and (benchmark.kind != "generate" or any(one.greedy for one in decodings)):
        why = "is greedy" if benchmark.kind == "generate" else "generates nothing"
        raise PreflightError(
            f"{name} has {protocol.samples} samples per item and {why}, so all would be equal; it needs a temperature above 0"
        )
    if (benchmark.kind == "generate") == isinstance(benchmark, LikelihoodBenchmark):
        raise PreflightError(
            f"{benchmark.name} is of the kind {benchmark.kind!r}; 'choose' and 'score' need a subclass of LikelihoodBenchmark"
        )


def check_groups(benchmark: Benchmark, items: Sequence[Item]) -> None:
    """Raises PreflightError if a value of the benchmark is a mean over groups, and an item has no group."""
    without = [item.id for item in items if not item.group]
    if without and "macro" in benchmark.aggregates.values():
        raise PreflightError(
            f"{benchmark.name} gives a mean over groups, and {len(without)} items have no group (first: {without[0]})"
        )


def make_requests(benchmark: Benchmark, samples: int, written: WrittenPrompts, writer: Writer, shared: str) -> list[Planned]:
    """Returns the samples to make, all of an item together.

    Args:
        benchmark: Benchmark under the protocol.
        samples: Samples per item.
        written: The items with their prompts.
        writer: What wrote the prompts.
        shared: Hash of what can change every completion.

    Raises:
        PreflightError: If a continuation is not one of its own tokens, or a server does not get token ids, without which it
            gives no log-probabilities of given texts.
    """
    items, texts, rows, names = written.items, written.texts, written.rows, written.names
    found: list[list[AnyRequest]]
    if isinstance(benchmark, LikelihoodBenchmark):
        if isinstance(writer, TextWriter):
            raise PreflightError(
                f"{benchmark.name} needs log-probabilities of given texts, for which prompts go as token ids; "
                "--prompts tokens does that with the model's tokenizer here"
            )
        wanted = [_continuations(benchmark, item) for item in items]
        ends = encode_continuations(writer, list(zip(texts, rows, strict=True)), wanted, names)
        make = _choice if benchmark.kind == "choose" else _score
        found = [[make(shared, *one)] for one in zip(rows, texts, ends, names, strict=True)]
    else:
        form = writer.template.form
        sent = [prompt.turns if form == "served" and prompt.earlier else () for prompt in written.prompts]
        found = [
            [Request.of(shared, ids, text, turns=turns, draw=draw) for draw in range(samples)]
            for ids, text, turns in zip(rows, texts, sent, strict=True)
        ]
    return [
        Planned(dataclasses.replace(item, id=name), request, text_hash(text))
        for item, requests, text in zip(items, found, texts, strict=True)
        for name, request in zip(sample_ids(item.id, samples), requests, strict=True)
    ]


def _continuations(benchmark: LikelihoodBenchmark, item: Item) -> tuple[str, ...]:
    texts = benchmark.continuations(item)
    if not texts:
        raise PreflightError(f"item {item.id}: {benchmark.name} gives no continuation to choose from")
    return texts


def _choice(shared: str, ids: tuple[int, ...], text: str, ends: tuple[Continuation, ...], name: str) -> ChoiceRequest:
    for end in ends:
        if len(end.token_ids) != 1:
            raise PreflightError(
                f"{name}: the candidate {end.text[:40]!r} has {len(end.token_ids)} tokens, and a choice is between single "
                "tokens; the kind 'score' takes texts of any length"
            )
    return ChoiceRequest.of(shared, ids, text, tuple(end.token_ids[0] for end in ends), tuple(end.text for end in ends))


def _score(shared: str, ids: tuple[int, ...], text: str, ends: tuple[Continuation, ...], name: str) -> ScoreRequest:
    return ScoreRequest.of(shared, ids, text, ends)


def continuations(request: AnyRequest) -> tuple[Continuation, ...]:
    """Returns the texts whose log-probabilities a request asks for; empty if it asks for a generated text."""
    return () if isinstance(request, Request) else request.continuations


def length(request: AnyRequest, decoding: Decoding) -> int:
    """Returns the positions that a request needs at most: prompt and all new tokens, or prompt, continuation and one more."""
    return len(request.token_ids) + decoding.max_new_tokens if isinstance(request, Request) else request.length


def check_lengths(planned: Sequence[Planned], model: ModelFiles) -> None:
    """Raises UserError if a prompt leaves no position of the model for an answer."""
    for one in planned:
        needed = length(one.request, Decoding(1))
        if model.context and needed > model.context:
            raise UserError(
                f"item {one.item.id}: its prompt has {len(one.request.token_ids)} tokens, and {model.name} has {model.context} "
                "positions; no token would be left for an answer"
            )


def parse_shard(text: str) -> tuple[int, int]:
    """Returns part and number of parts of ``--shard I/N``.

    Raises:
        UserError: If the text has another form, or I is not between 1 and N.
    """
    match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    part, parts = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= part <= parts:
        raise UserError(f"--shard must be I/N with I from 1 to N, such as 3/7, not {text!r}")
    return part, parts


def part_of(planned: Sequence[Planned], samples: int, shard: tuple[int, int] | None) -> tuple[Planned, ...]:
    """Returns a shard's samples: those of every Nth item, so that two parts differ by one item at most.

    Raises:
        UserError: If there are fewer items than parts.
    """
    if shard is None:
        return tuple(planned)
    part, parts = shard
    if parts * samples > len(planned):
        raise UserError(f"--shard {part}/{parts}: there are {len(planned) // samples} items, so at most as many shards")
    return tuple(every(planned, samples, part, parts))


def every(ids: Sequence[T], samples: int, part: int, parts: int) -> list[T]:
    """Returns the samples of every Nth item, from item number ``part`` on, out of those of all items in order."""
    return [one for start in range((part - 1) * samples, len(ids), parts * samples) for one in ids[start : start + samples]]
