"""Writes the prompts of a plan, and makes those shorter that have more tokens than the protocol allows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tulu_eval.benchmarks.base import Benchmark, Item, Prompt, Protocol
from tulu_eval.errors import PreflightError
from tulu_eval.models.template import ANY_DAY
from tulu_eval.models.text_writer import TextWriter
from tulu_eval.models.tokenizer import PromptWriter

Writer = PromptWriter | TextWriter


@dataclasses.dataclass(frozen=True, slots=True)
class WrittenPrompts:
    """Items with their prompts: four lists of the same length.

    Attributes:
        items: The items in the form in which they are asked.
        texts: Each prompt as the model gets it.
        rows: Token ids of each text; empty ones if a server tokenizes it.
        notices: What a reader of the number should know of prompts that were made shorter, one line each.
    """

    items: list[Item]
    prompts: list[Prompt]
    texts: list[str]
    rows: list[tuple[int, ...]]
    notices: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """Name of each item for error messages."""
        return [f"item {item.id}" for item in self.items]


def write_prompts(
    benchmark: Benchmark, protocol: Protocol, items: Sequence[Item], prompts: Sequence[Prompt], writer: Writer, date: str
) -> WrittenPrompts:
    """Returns the items with their prompts, none of which has more tokens than the protocol allows if it can be shorter.

    Args:
        benchmark: Benchmark under the protocol.
        protocol: Its protocol.
        items: The items.
        prompts: The items' prompts.
        writer: Writes prompts for the model.
        date: Day that the template writes; empty for none.

    Raises:
        PreflightError: If a prompt cannot be written, or its tokens are to be counted and a server makes them.
    """
    written = _write(list(items), list(prompts), writer, date)
    if not protocol.longest_prompt:
        return written
    if isinstance(writer, TextWriter):
        raise PreflightError(
            f"{benchmark.name} makes prompts of more than {protocol.longest_prompt} tokens shorter, and this server makes the "
            "tokens; --prompts tokens counts them with the model's tokenizer here"
        )
    return _shorten(benchmark, protocol.longest_prompt, written, writer, date)


def _write(items: list[Item], prompts: list[Prompt], writer: Writer, date: str) -> WrittenPrompts:
    names = [f"item {item.id}" for item in items]
    texts = writer.texts(prompts, names, date or ANY_DAY)
    return WrittenPrompts(items, prompts, texts, writer.encode(texts, names))


def _shorten(benchmark: Benchmark, longest: int, written: WrittenPrompts, writer: PromptWriter, date: str) -> WrittenPrompts:
    """Returns the prompts, each in the first of its item's forms that has at most ``longest`` tokens, else in the last."""
    long = [place for place, row in enumerate(written.rows) if len(row) > longest]
    if not long:
        return written
    forms = [(place, form) for place in long for form in benchmark.forms(written.items[place])]
    tried = _write([form for _, form in forms], [benchmark.render(form) for _, form in forms], writer, date)
    sizes = writer.lengths(tried.texts, tried.names)
    chosen: dict[int, int] = {}
    for at, (place, _) in enumerate(forms):
        if place not in chosen or sizes[chosen[place]] > longest:
            chosen[place] = at
    items, prompts, texts, rows = written.items[:], written.prompts[:], written.texts[:], written.rows[:]
    for place, at in chosen.items():
        items[place], prompts[place] = tried.items[at], tried.prompts[at]
        texts[place], rows[place] = tried.texts[at], tried.rows[at]
    shorter = [items[place].id for place in long if texts[place] != written.texts[place]]
    still = [items[place].id for place, at in chosen.items() if sizes[at] > longest]
    return WrittenPrompts(
        items,
        prompts,
        texts,
        rows,
        (
            *_notice(shorter, f"have more than {longest} tokens and are asked in a shorter form"),
            *_notice(still, f"have more than {longest} tokens in their shortest form"),
        ),
    )


def _notice(ids: Sequence[str], fact: str) -> tuple[str, ...]:
    return (f"{len(ids)} prompts {fact} (first: item {ids[0]})",) if ids else ()
