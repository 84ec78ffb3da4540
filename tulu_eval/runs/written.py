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
    """Returns the items with their prompts, cut and made shorter where they have more tokens than the protocol allows.

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
    if isinstance(writer, TextWriter) and (protocol.longest_prompt or protocol.longest_passage):
        what = "makes prompts" if protocol.longest_prompt else "cuts passages"
        more = f"of more than {protocol.longest_prompt or protocol.longest_passage} tokens"
        raise PreflightError(
            f"{benchmark.name} {what} {more}{' shorter' if protocol.longest_prompt else ''}, and this server makes the tokens; "
            "--prompts tokens counts them with the model's tokenizer here"
        )
    items, prompts, notices = _cut(benchmark, protocol.longest_passage, items, prompts, writer)
    written = dataclasses.replace(_write(list(items), list(prompts), writer, date), notices=notices)
    if not protocol.longest_prompt or isinstance(writer, TextWriter):
        return written
    return _shorten(benchmark, protocol.longest_prompt, written, writer, date)


def _cut(
    benchmark: Benchmark, longest: int, items: Sequence[Item], prompts: Sequence[Prompt], writer: Writer
) -> tuple[Sequence[Item], Sequence[Prompt], tuple[str, ...]]:
    """Returns the items and their prompts with passages of at most ``longest`` tokens, any for 0, and a notice of the cuts."""
    if not longest or isinstance(writer, TextWriter):
        return items, prompts, ()
    done: dict[str, str] = {}  # a passage has several questions, and a language's example stands in all its items

    def cut(text: str) -> str:
        if text not in done:
            done[text] = writer.cut(text, longest, f"passage {text[:20]!r}")
        return done[text]

    short = [benchmark.with_passages(item, cut) for item in items]
    changed = [item.id for item, one in zip(items, short, strict=True) if one != item]
    return short, [benchmark.render(item) for item in short], _notice(changed, f"have a passage cut to {longest} tokens")


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
    items, prompts, texts, rows = [*written.items], [*written.prompts], [*written.texts], [*written.rows]
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
            *written.notices,
            *_notice(shorter, f"have more than {longest} tokens and are asked in a shorter form"),
            *_notice(still, f"have more than {longest} tokens in their shortest form"),
        ),
    )


def _notice(ids: Sequence[str], fact: str) -> tuple[str, ...]:
    return (f"{len(ids)} prompts {fact} (first: item {ids[0]})",) if ids else ()
