"""Writes the prompts of finished runs as text. A ledger has only their hashes, so the text comes from the benchmark's items.

A prompt has three parts: a beginning, the question and an end. All items have the same end. They also have the same beginning,
unless the benchmark draws examples per item. A run folder does not contain a model's own chat template; for such a model the
text consists of the turns without the template.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

from tulu_eval.benchmarks.base import Benchmark, Item, Prompt
from tulu_eval.errors import DataError, UserError
from tulu_eval.models.prompt_form import render_tulu, text_hash
from tulu_eval.runs import catalog
from tulu_eval.runs.reading import StoredRun
from tulu_eval.runs.remembered_data import remembered_data
from tulu_eval.runs.requests import item_of
from tulu_eval.store.manifest_schema import Manifest
from tulu_eval.store.sample_line import Sample

KNOWN = ("tulu", "plain")
"""Forms whose prompts this module writes exactly; other forms put a template that the run folder lacks around the turns."""


@dataclasses.dataclass(frozen=True, slots=True)
class Prompts:
    """The prompts of a run.

    Attributes:
        before: Text before every question; empty if it differs between items.
        after: Text after every question.
        prefill: Beginning of the assistant's answer for forms outside :data:`KNOWN`; empty for others.
        questions: Question by item.
        proven: Whether each prompt has the hash that its sample has; false for forms outside :data:`KNOWN`.
        own: Text before each question by item, if it differs between items; else empty.
    """

    before: str
    after: str
    prefill: str
    questions: dict[str, str]
    proven: bool
    own: dict[str, str]


class PromptSource:
    """Makes prompts of runs; loads the items of each benchmark once.

    ``data`` has data files by benchmark. Items of other benchmarks come from the file that a run read, if it is still there, or
    from the benchmark's own source; items that may not be published, from there alone.
    """

    def __init__(self, data: Mapping[str, Path]) -> None:
        self._data = data
        self._items: dict[tuple[str, str, Path | None], dict[str, Item] | UserError] = {}

    def prompts(self, run: StoredRun, samples: Sequence[Sample]) -> Prompts:
        """Returns prompts of a run's samples; raises UserError if items cannot be loaded, or differ from those of the run."""
        protocol, form = run.manifest.protocol.name, run.manifest.template.form
        if run.manifest.protocol.longest_passage:
            raise DataError(run.benchmark, "the model's own tokenizer cut passages, so items alone do not give the prompts")
        benchmark, data = catalog.benchmark(run.benchmark, protocol), self._data.get(run.benchmark)
        if data is None and benchmark.publishable:  # a page may be published, and such items only if the user gives them
            data = remembered_data(run.manifest)
        items = self._load(run.benchmark, protocol, data)
        eos = _eos(run.manifest)
        frames = set()
        befores = {}
        questions = {}
        proven = True
        for sample in samples:
            item = items.get(item_of(sample.item, run.manifest.protocol.samples or 1))
            if item is None or item.target != sample.target:
                raise DataError(run.benchmark, f"the items at hand are not those of {run.folder.name} (first: {sample.item})")
            prompt, text = _asked(benchmark, item, form, eos, sample.prompt_sha256)
            question = item.question if item.question in text else item.question.strip()
            before, _, after = text.rpartition(question)
            frames.add((after, "" if form in KNOWN else prompt.prefill))
            befores[sample.item] = before
            questions[sample.item] = question
            proven = proven and text_hash(text) == sample.prompt_sha256
        if len(frames) != 1:
            raise DataError(run.benchmark, "what stands behind a question is not the same for every item")
        if form in KNOWN and not proven:
            raise DataError(run.benchmark, f"the items at hand give other prompts than {run.folder.name} had (hashes differ)")
        same = len(set(befores.values())) == 1
        before = next(iter(befores.values())) if same else ""
        return Prompts(before, *frames.pop(), questions, proven, {} if same else befores)

    def _load(self, name: str, protocol: str, data: Path | None) -> dict[str, Item]:
        key = (name, protocol, data)
        if key not in self._items:
            try:
                benchmark = catalog.benchmark(name, protocol)
                items = benchmark.load(benchmark.protocol(protocol), data)
                self._items[key] = {item.id: item for item in items}
            except UserError as error:
                # A page is published, and no folder of anybody's machine belongs into it.
                self._items[key] = UserError(error.command_line.replace(str(data), data.name)) if data else error
        found = self._items[key]
        if isinstance(found, UserError):
            raise found
        return found


def _eos(manifest: Manifest) -> str:
    """Returns the tokenizer's end-of-sequence token; empty if the manifest does not have it."""
    chosen = manifest.end_tokens.chosen if manifest.end_tokens else ()
    return next((token.text for token in chosen if "tokenizer" in token.origins), "")


def _asked(benchmark: Benchmark, item: Item, form: str, eos: str, sha256: str) -> tuple[Prompt, str]:
    """Returns the prompt of an item that has a hash, with its text; if no form of the item has it, the longest prompt."""
    found = ((prompt, _text(prompt, form, eos)) for prompt in map(benchmark.render, benchmark.forms(item)))
    first = next(found)
    return next((one for one in itertools.chain([first], found) if text_hash(one[1]) == sha256), first)


def _text(prompt: Prompt, form: str, eos: str) -> str:
    """Returns a prompt as text. For forms outside :data:`KNOWN` that is the user's turn, or all turns with their roles."""
    if form == "plain":
        return prompt.plain
    if form == "tulu":
        return render_tulu(prompt.turns, eos) + prompt.prefill
    return "\n\n".join(f"{turn.role}: {turn.content}" for turn in prompt.turns) if prompt.earlier else prompt.user
