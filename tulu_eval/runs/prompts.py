"""The prompts of finished runs as text. A ledger has only their hashes; the text comes from the benchmark's items.

A prompt is what stands before the question, the question, and what stands behind it. What stands behind is the same for every
item; so is what stands before, unless examples are drawn per item. A model's own chat template is not in the run folder, so
for that form the text is the turns without it.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from tulu_eval.benchmarks.base import Item, Prompt
from tulu_eval.errors import DataError, UserError
from tulu_eval.models.prompt_form import render_tulu
from tulu_eval.runs import catalog
from tulu_eval.runs.ledger import Sample
from tulu_eval.runs.manifest_schema import Manifest
from tulu_eval.runs.reading import StoredRun

KNOWN = ("tulu", "plain")
"""Forms that are written here, to the letter; in others, a template that is not in the run folder goes around the turn."""


@dataclasses.dataclass(frozen=True, slots=True)
class Prompts:
    """The prompts of a run.

    Attributes:
        before: What stands before every question; empty if that differs between items.
        after: What stands behind it.
        prefill: What the assistant's answer starts with, if a chat template that is not known here stands in between.
        questions: By item.
        proven: Whether every sample's hash is that of its prompt; never for a template that is not known here.
        own: What stands before each question, by item, if that differs between items; else empty.
    """

    before: str
    after: str
    prefill: str
    questions: dict[str, str]
    proven: bool
    own: dict[str, str]


class PromptSource:
    """Loads each benchmark's items once.

    Args:
        data: Files with the items of benchmarks, by benchmark; others come from the benchmark's own source.
    """

    def __init__(self, data: Mapping[str, Path]) -> None:
        self._data = data
        self._items: dict[tuple[str, str], dict[str, Item] | UserError] = {}

    def prompts(self, run: StoredRun, samples: Sequence[Sample]) -> Prompts:
        """Returns the prompts of a run's samples.

        Raises:
            UserError: The items cannot be had, or are others than those of the run.
        """
        protocol, form = run.manifest.protocol.name, run.manifest.template.form
        items = self._load(run.benchmark, protocol)
        benchmark = catalog.benchmark(run.benchmark, protocol)
        eos = _eos(run.manifest)
        frames = set()
        befores = {}
        questions = {}
        proven = True
        for sample in samples:
            item = items.get(sample.item)
            if item is None or item.target != sample.target:
                raise DataError(run.benchmark, f"the items at hand are not those of {run.folder.name} (first: {sample.item})")
            prompt = benchmark.render(item)
            text = _text(prompt, form, eos)
            question = item.question if item.question in text else item.question.strip()
            before, _, after = text.rpartition(question)
            frames.add((after, "" if form in KNOWN else prompt.prefill))
            befores[sample.item] = before
            questions[sample.item] = question
            proven = proven and hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() == sample.prompt_sha256
        if len(frames) != 1:
            raise DataError(run.benchmark, "what stands behind a question is not the same for every item")
        if form in KNOWN and not proven:
            raise DataError(run.benchmark, f"the items at hand give other prompts than {run.folder.name} had (hashes differ)")
        same = len(set(befores.values())) == 1
        before = next(iter(befores.values())) if same else ""
        return Prompts(before, *frames.pop(), questions, proven, {} if same else befores)

    def _load(self, name: str, protocol: str) -> dict[str, Item]:
        key = (name, protocol)
        if key not in self._items:
            try:
                benchmark = catalog.benchmark(name, protocol)
                items = benchmark.load(benchmark.protocol(protocol), self._data.get(name))
                self._items[key] = {item.id: item for item in items}
            except UserError as error:
                self._items[key] = error
        found = self._items[key]
        if isinstance(found, UserError):
            raise found
        return found


def _eos(manifest: Manifest) -> str:
    """Returns the tokenizer's end-of-sequence token, empty if the run does not say it."""
    chosen = manifest.end_tokens.chosen if manifest.end_tokens else ()
    return next((token.text for token in chosen if "tokenizer" in token.origins), "")


def _text(prompt: Prompt, form: str, eos: str) -> str:
    """Returns a prompt as text; for a template that is not known here its one turn, or the turns with their roles."""
    if form == "plain":
        return prompt.plain
    if form == "tulu":
        return render_tulu(prompt.turns, eos) + prompt.prefill
    return "\n\n".join(f"{turn.role}: {turn.content}" for turn in prompt.turns) if prompt.earlier else prompt.user
